//! What an experiment is: alternatives, what is measured of each, and what their authors said would
//! come out.

#![forbid(unsafe_code)]

use crate::sheet::Sheet;
use crate::tools::Setting;
use serde::Serialize;

/// What a figure is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Nanoseconds: measured, so different every time.
    Ns,
    /// Bytes: counted, the same for the same seed.
    Bytes,
    /// Things: counted.
    Count,
}

impl Unit {
    /// Whether it is counted.
    pub fn is_counted(self) -> bool {
        self != Unit::Ns
    }
}

/// Which of two figures is the better one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// The smaller.
    Less,
    /// The larger.
    More,
}

/// One figure of every arm.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its name in JSON.
    pub key: &'static str,
    /// In words.
    pub title: &'static str,
    /// What it is in.
    pub unit: Unit,
    /// Which is better.
    pub better: Better,
}

/// A row where less is better.
pub const fn less(key: &'static str, unit: Unit, title: &'static str) -> Row {
    Row {
        key,
        title,
        unit,
        better: Better::Less,
    }
}

/// A row where more is better.
pub const fn more(key: &'static str, unit: Unit, title: &'static str) -> Row {
    Row {
        key,
        title,
        unit,
        better: Better::More,
    }
}

/// An alternative.
#[derive(Clone, Copy, Debug)]
pub struct Arm {
    /// Its name on the command line and in JSON.
    pub name: &'static str,
    /// What it does, in a sentence.
    pub title: &'static str,
}

/// What somebody said would come out: in this row this arm is better, or worse, than that one.
#[derive(Clone, Copy, Debug)]
pub struct Prediction {
    /// Who.
    pub by: &'static str,
    /// Of which arm.
    pub arm: &'static str,
    /// Better, or worse.
    pub wins: bool,
    /// In which row.
    pub row: &'static str,
    /// Than which arm.
    pub than: &'static str,
    /// In a sentence.
    pub says: &'static str,
}

/// A prediction that `arm` is the better one in `row`.
pub const fn wins(
    arm: &'static str,
    row: &'static str,
    than: &'static str,
    by: &'static str,
    says: &'static str,
) -> Prediction {
    Prediction {
        by,
        arm,
        wins: true,
        row,
        than,
        says,
    }
}

/// A prediction that `arm` is the worse one in `row`.
pub const fn loses(
    arm: &'static str,
    row: &'static str,
    than: &'static str,
    by: &'static str,
    says: &'static str,
) -> Prediction {
    Prediction {
        by,
        arm,
        wins: false,
        row,
        than,
        says,
    }
}

/// A figure over the course of an arm.
#[derive(Clone, Copy, Debug)]
pub struct Plot {
    /// Its name in JSON.
    pub key: &'static str,
    /// In words.
    pub title: &'static str,
    /// What goes to the right.
    pub across: &'static str,
    /// What goes up.
    pub unit: Unit,
}

/// Published designs against each other.
#[derive(Clone, Copy)]
pub struct Experiment {
    /// Its name on the command line.
    pub name: &'static str,
    /// In words.
    pub title: &'static str,
    /// Where the alternatives are from.
    pub source: &'static str,
    /// What is done in every arm.
    pub what: &'static str,
    /// The alternatives.
    pub arms: &'static [Arm],
    /// What is measured of each.
    pub rows: &'static [Row],
    /// What is seen on the way.
    pub plots: &'static [Plot],
    /// What was predicted.
    pub predictions: &'static [Prediction],
    /// Runs one arm, in a process of its own.
    pub run: fn(&str, &Setting, &mut Sheet),
}

impl Experiment {
    /// The row of a key.
    pub fn row(&self, key: &str) -> Option<&'static Row> {
        self.rows.iter().find(|row| row.key == key)
    }

    /// The place of an arm.
    pub fn arm(&self, name: &str) -> Option<usize> {
        self.arms.iter().position(|arm| arm.name == name)
    }
}
