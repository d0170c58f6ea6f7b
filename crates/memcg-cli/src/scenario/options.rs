//! `set OPTION VALUE`: how the engine behaves.

use super::world::Fault;
use memcg::engine::process::engine;

/// The options there are, with what each takes.
const OPTIONS: &str = "strict on|off";

/// Sets one.
pub fn set(option: &str, value: &str) -> Result<(), Fault> {
    let is_on = || match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(Fault::refused(
            "EINVAL",
            format!("{option} takes on or off"),
        )),
    };
    match option {
        "strict" => engine().options.set_strict(is_on()?),
        _ => {
            return Err(Fault::refused(
                "EINVAL",
                format!("there is no option '{option}': there is {OPTIONS}"),
            ));
        }
    }
    Ok(())
}
