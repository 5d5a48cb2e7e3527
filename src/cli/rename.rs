//! `tripmine rename`: another name for a kept cube, running or ended.

use super::ctx::{Ctx, name};
use super::cube_ref::{self, Prefer};
use super::verb_args::RenameArgs;
use crate::engine::running;
use crate::model::Failure;

/// Carries the command out.
///
/// # Errors
/// There is no such cube, it is none that is kept, or the name is taken.
pub fn run(args: &RenameArgs, ctx: &Ctx) -> Result<(), Failure> {
    let new = name(&args.name)?;
    let entry = cube_ref::one(ctx, &args.cube, Prefer::Any)?;
    let mines = ctx.layout.mines_dir();
    let old = cube_ref::shown(&entry);
    if !running::rename(&ctx.layout.run, &mines, &entry, &new)? {
        ctx.out.note(format!("the cube is called `{new}` already"));
        return Ok(());
    }
    ctx.record("rename", &format!("{} {new}", entry.id), None);
    ctx.out.note(format!("the cube {old} is now `{new}`"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ctx::testing;
    use crate::model::FailureKind;
    use crate::store::cubes::tests::{durable as kept, sample};
    use crate::store::cubes::{create, load};

    #[test]
    fn an_ended_cube_takes_a_free_name_only() {
        let (_folder, ctx) = testing::ctx();
        let mines = ctx.layout.mines_dir();
        let (first, throwaway) = (kept(1, "box"), sample(3));
        for record in [&first, &kept(2, "lab"), &throwaway] {
            drop(create(&mines, record).expect("created"));
        }
        let args = |cube: &str, name: &str| RenameArgs { cube: cube.to_owned(), name: name.to_owned() };
        assert_eq!(run(&args("box", "lab"), &ctx).expect_err("taken").kind, FailureKind::Busy);
        assert_eq!(run(&args("box", "ps"), &ctx).expect_err("a verb").kind, FailureKind::Usage);
        assert_eq!(run(&args("box", "box"), &ctx), Ok(()));
        let failure = run(&args(throwaway.id.short(), "x"), &ctx).expect_err("a throwaway");
        assert_eq!(failure.kind, FailureKind::Unsupported);
        assert_eq!(run(&args("box", "attic"), &ctx), Ok(()));
        let record = load(&mines, &first.id).expect("there").record.expect("good");
        assert_eq!(record.name.map(String::from).as_deref(), Some("attic"));
    }
}
