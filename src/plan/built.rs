//! What this build can do. Settings that need a later capability are refused in one place.

use crate::model::{Failure, FailureKind, JailChoice, Settings};

/// Refuses settings that nothing carries out yet.
///
/// # Errors
/// Names the first such setting.
pub fn check_built(settings: &Settings) -> Result<(), Failure> {
    let not_built = |what: String, hint: &str| {
        Err(Failure::new(FailureKind::Unsupported, format!("{what} is not built yet")).hint(hint))
    };
    match settings.jail {
        None | Some(JailChoice::Container | JailChoice::Landlock | JailChoice::Auto) => {}
        Some(jail @ JailChoice::Microvm) => {
            return not_built(format!("the jail `{jail}`"), "use the jail `container`");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ImageRef;

    #[test]
    fn only_what_is_built_passes() {
        let built = Settings {
            image: Some(ImageRef::Stored("dev".into())),
            jail: Some(JailChoice::Container),
            ..Settings::default()
        };
        assert_eq!(check_built(&built), Ok(()));
        assert_eq!(check_built(&Settings::default()), Ok(()));
        for jail in [JailChoice::Landlock, JailChoice::Auto] {
            assert_eq!(check_built(&Settings { jail: Some(jail), ..built.clone() }), Ok(()));
        }
        let failure = check_built(&Settings { jail: Some(JailChoice::Microvm), ..built }).expect_err("later");
        assert!(failure.message.contains("jail `microvm`"), "{failure}");
        assert_eq!(failure.kind, FailureKind::Unsupported);
    }
}
