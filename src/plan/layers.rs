//! The layers that must be in force before an entry runs. Owns the list and the refusal when this
//! host cannot give one: nothing is ever left out quietly.

use super::facts::MissingLayer;
use super::launch::{LandlockPlan, LimitsPlan};
use crate::model::{Failure, FailureKind, Layer};

/// The layers of a container jail; `captured` when its policy reaches anything.
#[must_use]
pub fn required(limits: &LimitsPlan, captured: bool) -> Vec<Layer> {
    let mut layers = vec![
        Layer::UserNs,
        Layer::MountNs,
        Layer::PidNs,
        Layer::NetNs,
        Layer::IpcNs,
        Layer::UtsNs,
        Layer::CgroupNs,
        Layer::TimeNs,
        Layer::NoNewPrivs,
        Layer::Capabilities,
        Layer::Landlock,
        Layer::Seccomp,
        Layer::InitSealed,
    ];
    if captured {
        layers.push(Layer::NetCapture);
    }
    if limits.cgroup.is_some() {
        layers.push(Layer::Cgroup);
    }
    layers
}

/// The layers of a jail in place, whose kernel knows scopes or not.
#[must_use]
pub fn required_in_place(limits: &LimitsPlan, scopes: bool) -> Vec<Layer> {
    let mut layers = vec![Layer::NoNewPrivs, Layer::Capabilities, Layer::Landlock];
    if scopes {
        layers.push(Layer::Scopes);
    }
    layers.extend([Layer::Seccomp, Layer::Rlimits, Layer::InitSealed, Layer::Warden]);
    if limits.cgroup.is_some() {
        layers.push(Layer::Cgroup);
    }
    layers
}

/// Checks that the host can give every layer.
///
/// # Errors
/// The first that it cannot, why, and what to do.
pub fn check(
    layers: &[Layer],
    landlock: &LandlockPlan,
    abi: u32,
    missing: &[MissingLayer],
) -> Result<(), Failure> {
    if let Some(gap) = missing.iter().find(|gap| layers.contains(&gap.layer)) {
        let message = format!("this host cannot give the layer `{}`: {}", gap.layer.word(), gap.why);
        return Err(Failure::new(FailureKind::Unsupported, message)
            .hint(&gap.fix)
            .hint("`tripmine doctor` shows what this host can give"));
    }
    if abi == 0 {
        return Err(Failure::new(
            FailureKind::Unsupported,
            "this kernel has no Landlock, which every jail needs",
        )
        .hint("boot with `lsm=landlock,…` (kernel 5.13 or newer); `tripmine doctor` says more"));
    }
    if abi < landlock.required_abi {
        let message =
            format!("this kernel's Landlock has ABI {abi}, and the profile needs {}", landlock.required_abi);
        return Err(Failure::new(FailureKind::Unsupported, message)
            .hint("use a newer kernel; `tripmine doctor` shows what this one can give"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_host_lacks_is_named_with_its_fix() {
        let landlock = |required_abi| LandlockPlan {
            abi: 7,
            required_abi,
            rules: Vec::new(),
            scope_abstract: true,
            scope_signal: true,
            no_tcp: false,
        };
        let gap = |layer| {
            vec![MissingLayer { layer, why: "sysctl says no".to_owned(), fix: "sysctl -w x=1".to_owned() }]
        };
        let layers = [Layer::UserNs, Layer::Landlock];
        assert_eq!(check(&layers, &landlock(3), 3, &gap(Layer::Cgroup)), Ok(()));
        for (required_abi, abi, missing, part, hint) in [
            (3, 7, gap(Layer::UserNs), "layer `userns`: sysctl says no", "sysctl -w x=1"),
            (3, 0, vec![], "no Landlock", "lsm=landlock"),
            (3, 2, vec![], "ABI 2, and the profile needs 3", "newer kernel"),
        ] {
            let error = check(&layers, &landlock(required_abi), abi, &missing).expect_err(part);
            assert_eq!(error.kind, FailureKind::Unsupported);
            assert!(error.message.contains(part), "{error}");
            assert!(error.hints[0].contains(hint), "{:?}", error.hints);
        }
    }
}
