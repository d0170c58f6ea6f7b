//! The file of an object: whether it is the one that was loaded, and whether it carries Rust's
//! runtime.
//!
//! Invariants: a file counts only if its program headers are those that the loader has. A file that
//! was put in the place of another is none.
//! Depends on: `search`.
//! Never: believes a size or a place that the file tells, beyond asking for the bytes there.

use super::search::{Searched, search};
use memchr::memmem::find;

type Header = libc::Elf64_Phdr;
type Section = libc::Elf64_Shdr;

/// A file, as far as `read` copies it: from a place on, as many bytes as it can.
pub struct Elf<R> {
    read: R,
    sections_at: u64,
    nr_sections: u16,
}

impl<R: Fn(u64, &mut [u8]) -> usize> Elf<R> {
    /// `None`: no file that was loaded with `headers`.
    pub fn of(read: R, headers: &[Header]) -> Option<Self> {
        let mut head = [0; size_of::<libc::Elf64_Ehdr>()];
        if read(0, &mut head) < head.len() || !head.starts_with(b"\x7fELF") {
            return None;
        }
        // SAFETY: integers, of as many bytes.
        let head: libc::Elf64_Ehdr = unsafe { core::mem::transmute(head) };
        let are_known = usize::from(head.e_phentsize) == size_of::<Header>()
            && usize::from(head.e_phnum) == headers.len();
        let are_same = |(n, header): (u64, &Header)| {
            let mut bytes = [0; size_of::<Header>()];
            let at = head.e_phoff.wrapping_add(n * bytes.len() as u64);
            read(at, &mut bytes) == bytes.len() && bytes == bytes_of(header)
        };
        if !are_known || !(0..).zip(headers).all(are_same) {
            return None;
        }
        let has_sections = usize::from(head.e_shentsize) == size_of::<Section>();
        Some(Self {
            read,
            sections_at: head.e_shoff,
            nr_sections: if has_sections { head.e_shnum } else { 0 },
        })
    }

    /// Whether a section names rustc, or the constants have a path of the standard library's
    /// sources. `most`: how many bytes of constants are read.
    pub fn search(&self, buffer: &mut [u8], headers: &[Header], most: u64) -> Searched {
        let mut left = most;
        let mut part = |at: u64, bytes: u64| {
            let bytes = bytes.min(left);
            left -= bytes;
            search(buffer, bytes, |n, to| (self.read)(at.wrapping_add(n), to))
        };
        if self.nr_sections == 0 {
            return constants(headers).fold(Searched::Nothing, |so_far, header| {
                so_far.or_else(|| part(header.p_offset, header.p_filesz))
            });
        }
        if self.sections(Holds::Comment).any(|s| self.names_rustc(&s)) {
            return Searched::Found;
        }
        let mut nr = 0;
        let found = self
            .sections(Holds::Constants)
            .fold(Searched::Nothing, |so_far, section| {
                nr += 1;
                so_far.or_else(|| part(section.sh_offset, section.sh_size))
            });
        // Sections that lie elsewhere than the file goes have none.
        if nr == 0 {
            found.or_else(|| Searched::Unread)
        } else {
            found
        }
    }

    /// Whether a section names rustc near its beginning.
    fn names_rustc(&self, section: &Section) -> bool {
        let mut text = [0; 1024];
        let nr = (self.read)(section.sh_offset, &mut text) as u64;
        let text = &text[..nr.min(section.sh_size) as usize];
        find(text, b"rustc version ").is_some()
    }

    fn sections(&self, holds: Holds) -> impl Iterator<Item = Section> + '_ {
        (0..u64::from(self.nr_sections))
            .map_while(|n| {
                let mut bytes = [0; size_of::<Section>()];
                let at = self.sections_at.wrapping_add(n * bytes.len() as u64);
                if (self.read)(at, &mut bytes) < bytes.len() {
                    return None;
                }
                // SAFETY: integers, of as many bytes.
                Some(unsafe { core::mem::transmute::<[u8; 64], Section>(bytes) })
            })
            .filter(move |section| Holds::of(section) == holds)
    }
}

/// The parts with an object's constants: they have their own, or in old objects lie with the code.
pub fn constants(headers: &[Header]) -> impl Iterator<Item = &Header> {
    let is_loaded = |header: &&Header, without: u32| {
        header.p_type == libc::PT_LOAD
            && header.p_flags & libc::PF_R != 0
            && header.p_flags & without == 0
    };
    let apart = libc::PF_W | libc::PF_X;
    let without = match headers.iter().any(|header| is_loaded(&header, apart)) {
        true => apart,
        false => libc::PF_W,
    };
    headers
        .iter()
        .filter(move |header| is_loaded(header, without))
}

fn bytes_of(header: &Header) -> [u8; size_of::<Header>()] {
    // SAFETY: integers without a gap between them, of as many bytes.
    unsafe { core::mem::transmute_copy(header) }
}

/// What a section of a file holds, as far as it matters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// Strings that are not loaded, as `.comment` has them.
    Comment,
    /// Constants of the program.
    Constants,
    Other,
}

impl Holds {
    fn of(section: &Section) -> Self {
        const PROGRAM: u32 = 1;
        const WRITTEN: u64 = 0x1;
        const LOADED: u64 = 0x2;
        const CODE: u64 = 0x4;
        const MERGED_STRINGS: u64 = 0x10 | 0x20;
        let (flags, is_program) = (section.sh_flags, section.sh_type == PROGRAM);
        match flags & (LOADED | WRITTEN | CODE) {
            LOADED if is_program => Self::Constants,
            0 if is_program && flags & MERGED_STRINGS == MERGED_STRINGS => Self::Comment,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rust_runtime::search::tests::reader;

    const PATH: &[u8] = b"/rustc/0123/library/std/src/io/mod.rs";
    const CONSTANTS_AT: usize = 0x400;

    fn put<T: Copy>(file: &mut Vec<u8>, at: usize, value: T) {
        file.resize(file.len().max(at + size_of::<T>()), 0);
        // SAFETY: as many bytes are there.
        unsafe { file.as_mut_ptr().add(at).cast::<T>().write_unaligned(value) };
    }

    fn header(p_flags: u32) -> Header {
        // SAFETY: integers, of which zero bytes make zeros.
        let none: Header = unsafe { core::mem::zeroed() };
        Header {
            p_type: libc::PT_LOAD,
            p_flags,
            p_offset: CONSTANTS_AT as u64,
            p_filesz: 0x100,
            ..none
        }
    }

    /// A file of one part with `constants`, and with `.comment` and `.rodata` if it has sections.
    fn file(constants: &[u8], comment: Option<&[u8]>) -> (Vec<u8>, [Header; 1]) {
        // SAFETY: integers, of which zero bytes make zeros.
        let (mut head, none): (libc::Elf64_Ehdr, Section) = unsafe { core::mem::zeroed() };
        let headers = [header(libc::PF_R)];
        let mut file = Vec::new();
        head.e_ident[..4].copy_from_slice(b"\x7fELF");
        (head.e_phoff, head.e_phentsize, head.e_phnum) = (0x100, 56, 1);
        put(&mut file, 0x100, headers[0]);
        if let Some(comment) = comment {
            (head.e_shoff, head.e_shentsize, head.e_shnum) = (0x200, 64, 2);
            let section = |sh_flags, sh_offset, sh_size| Section {
                sh_type: 1,
                sh_flags,
                sh_offset,
                sh_size,
                ..none
            };
            let at = 0x300;
            put(
                &mut file,
                0x200,
                section(0x30, at as u64, comment.len() as u64),
            );
            put(&mut file, 0x240, section(2, CONSTANTS_AT as u64, 0x100));
            file.resize(at, 0);
            file.extend_from_slice(comment);
        }
        put(&mut file, 0, head);
        file.resize(CONSTANTS_AT, 0);
        file.extend_from_slice(constants);
        file.resize(CONSTANTS_AT + 0x100, 0);
        (file, headers)
    }

    fn searched(file: &[u8], headers: &[Header]) -> Option<Searched> {
        let elf = Elf::of(reader(file, usize::MAX), headers)?;
        Some(elf.search(&mut [0; 100], headers, 1 << 20))
    }

    #[test]
    fn the_comment_or_a_path_tells_rust_s_runtime_with_sections_and_without() {
        for (constants, comment, expected) in [
            (
                b"".as_slice(),
                Some(b"rustc version 1".as_slice()),
                Searched::Found,
            ),
            (PATH, Some(b"GCC"), Searched::Found),
            (PATH, None, Searched::Found),
            (b"", Some(b"GCC"), Searched::Nothing),
            (b"", None, Searched::Nothing),
        ] {
            let (file, headers) = file(constants, comment);
            assert_eq!(searched(&file, &headers), Some(expected));
        }
    }

    #[test]
    fn a_file_with_other_headers_is_another_object_s() {
        let (file, mut headers) = file(PATH, None);
        headers[0].p_filesz += 1;
        assert_eq!(searched(&file, &headers), None);
        assert_eq!(searched(&file, &[]), None);
        assert_eq!(searched(b"#!/bin/sh", &headers), None);
    }

    #[test]
    fn a_file_that_was_cut_is_not_taken_for_read() {
        for comment in [None, Some(b"GCC".as_slice())] {
            let (whole, headers) = file(b"", comment);
            for nr in 0..whole.len() {
                let searched = searched(&whole[..nr], &headers);
                assert!(matches!(searched, None | Some(Searched::Unread)), "{nr}");
            }
        }
    }

    #[test]
    fn no_more_is_read_than_may_be() {
        let (mut file, headers) = file(b"", None);
        file.truncate(file.len() - PATH.len());
        file.extend_from_slice(PATH);
        let elf = Elf::of(reader(&file, usize::MAX), &headers).unwrap();
        let mut buffer = [0; 100];
        assert_eq!(elf.search(&mut buffer, &headers, 0x100), Searched::Found);
        assert_eq!(elf.search(&mut buffer, &headers, 0xf0), Searched::Nothing);
    }

    #[test]
    fn constants_lie_apart_or_with_the_code() {
        let code = libc::PF_R | libc::PF_X;
        let nr = |headers: &[Header]| constants(headers).count();
        assert_eq!(nr(&[header(libc::PF_R), header(code)]), 1);
        assert_eq!(nr(&[header(code), header(libc::PF_R | libc::PF_W)]), 1);
    }
}
