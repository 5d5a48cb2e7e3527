//! `tripmine wait`: blocks until each cube has ended and prints its exit code, a line each, in order.
//! The own exit code stays 0, as with podman: the codes are the data.

use super::ctx::Ctx;
use super::cube_ref::{self, Prefer};
use super::verb_args::WaitArgs;
use crate::engine::running;
use crate::keeper::protocol::{Answer, Ask};
use crate::model::{Failure, FailureKind};
use crate::store::cubes::{self, CubeEntry};

/// Carries the command out.
///
/// # Errors
/// A word names no cube: known before the waiting begins. Or the end of one cannot be learned.
pub fn run(args: &WaitArgs, ctx: &Ctx) -> Result<(), Failure> {
    let entries: Vec<CubeEntry> =
        args.cubes.iter().map(|word| cube_ref::one(ctx, word, Prefer::Live)).collect::<Result<_, _>>()?;
    for entry in entries {
        ctx.out.line(code(&entry, ctx)?.to_string());
    }
    Ok(())
}

fn code(entry: &CubeEntry, ctx: &Ctx) -> Result<i32, Failure> {
    if entry.live {
        let asked = || -> Result<i32, Failure> {
            let mut client = cube_ref::connect(ctx, entry)?;
            client.ask(&Ask::Wait)?;
            loop {
                if let Answer::Exited(exit) = client.answer()? {
                    return Ok(exit.code);
                }
            }
        };
        match asked() {
            // It ended before we could ask, or its keeper was lost: the record tells.
            Err(failure) if failure.kind == FailureKind::Missing => {}
            other => {
                running::settle(&ctx.layout.mines_dir(), &entry.id);
                return other;
            }
        }
    }
    let known = cubes::load(&ctx.layout.mines_dir(), &entry.id)?;
    let exit = known.record?.exit;
    exit.map(|exit| exit.code)
        .ok_or_else(|| Failure::failed(format!("nothing is known of the end of {}", entry.id.short())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ctx::testing;
    use crate::store::cubes::create;
    use crate::store::cubes::tests::durable;

    #[test]
    fn the_code_of_an_ended_cube_is_in_its_record() {
        let (_folder, ctx) = testing::ctx();
        drop(create(&ctx.layout.mines_dir(), &durable(1, "box")).expect("created"));
        let args = |words: &[&str]| WaitArgs { cubes: words.iter().map(ToString::to_string).collect() };
        assert_eq!(run(&args(&["box", "box"]), &ctx), Ok(()));
        assert_eq!(ctx.out.text().0, "125\n125\n", "its keeper was lost");
        assert_eq!(run(&args(&["box", "none"]), &ctx).expect_err("none").kind, FailureKind::Missing);
    }
}
