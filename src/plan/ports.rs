//! The forwards that a launch opens: those of every place that names some, the strongest for each end in the cube.

use super::launch::Origin;
use super::pick::{Places, Record};
use crate::model::forward::PRIVILEGED;
use crate::model::{CubeEnd, Failure, HostEnd, PortMap};

/// The most that one launch opens.
const MAX: usize = 64;
/// Where a project's own file gets a port that only root may use.
const UNPRIVILEGED: u16 = 8000;

/// Gathers them, weakest place first.
///
/// # Errors
/// There are too many, or two want the same host port.
pub fn forwards(
    places: &Places<'_>,
    record: &mut Record,
    warnings: &mut Vec<String>,
) -> Result<Vec<PortMap>, Failure> {
    let mut chosen: Vec<(Origin, PortMap)> = Vec::new();
    for (origin, settings) in places.weakest_first() {
        let here: Vec<PortMap> = settings.ports.iter().map(|map| tamed(map, origin)).collect();
        // One place may lead several ports to one end; a stronger place replaces all of those.
        chosen.retain(|(_, old)| !here.iter().any(|new| new.cube == old.cube));
        chosen.extend(here.into_iter().map(|map| (origin, map)));
    }
    if chosen.len() > MAX {
        return Err(Failure::usage(format!(
            "{} forwards are more than the {MAX} that a cube can have",
            chosen.len()
        )));
    }
    for (at, (_, map)) in chosen.iter().enumerate() {
        let same = |other: &&(Origin, PortMap)| other.1.host == map.host && !any(&map.host);
        if let Some((_, other)) = chosen.iter().take(at).find(same) {
            return Err(Failure::usage(format!(
                "two forwards want the same place on the host: `{other}` and `{map}`"
            ))
            .hint("give one of them another host port, or 0 for any that is free"));
        }
        if map.is_public() {
            warnings.push(format!(
                "the forward `{map}` listens beyond this host: whoever reaches that address reaches port {} of the cube",
                map.cube
            ));
        }
    }
    for (origin, map) in &chosen {
        record.add("forward", map, *origin);
    }
    Ok(chosen.into_iter().map(|(_, map)| map).collect())
}

const fn any(host: &HostEnd) -> bool {
    matches!(host, HostEnd::Tcp { port: 0, .. })
}

/// A cube can write its project's own file. Even for root on the host that file takes no port below 1024.
fn tamed(map: &PortMap, origin: Origin) -> PortMap {
    match (&map.host, &map.cube) {
        (HostEnd::Tcp { port: port @ 1..PRIVILEGED, .. }, CubeEnd::Tcp(_))
            if origin == Origin::ProjectFile =>
        {
            let mut map = map.clone().on_port(port + UNPRIVILEGED);
            map.host_implied = false;
            map
        }
        _ => map.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Settings;

    fn said(list: &[&str]) -> Settings {
        let ports = list.iter().map(|text| text.parse().expect("a forward")).collect();
        Settings { ports, ..Settings::default() }
    }

    fn shown(flag: &[&str], file: &[&str], machine: &[&str]) -> Result<(Vec<String>, Vec<String>), String> {
        let (flag, file, machine) = (said(flag), said(file), said(machine));
        let places =
            Places::new([(Origin::Flag, &flag), (Origin::ProjectFile, &file), (Origin::Machine, &machine)]);
        let mut warnings = Vec::new();
        forwards(&places, &mut Record::default(), &mut warnings)
            .map(|maps| (maps.iter().map(ToString::to_string).collect(), warnings))
            .map_err(|failure| failure.to_string())
    }

    #[test]
    fn places_add_up_and_the_strongest_wins_an_end() {
        for (flag, file, machine, expected) in [
            (&[][..], &[][..], &[][..], &[][..]),
            (&["9000:3000"], &["3000", "4000"], &["5000"], &["5000", "4000", "9000:3000"]),
            (&["1:80", "2:80"], &[], &["3:80"], &["1:80", "2:80"]),
            // What a cube can write takes no port of root's.
            (&[], &["80"], &[], &["8080:80"]),
            (&["80"], &[], &[], &["80"]),
            (&["0:1", "0:2"], &[], &[], &["0:1", "0:2"]),
        ] {
            let (maps, warnings) = shown(flag, file, machine).expect("good");
            assert_eq!(maps, expected);
            assert!(warnings.is_empty(), "{warnings:?}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_and_what_is_loud_is_said() {
        let error = shown(&["8080:80"], &["8080:81"], &[]).expect_err("the same port");
        assert!(error.contains("`8080:81` and `8080:80`"), "{error}");
        let many: Vec<String> = (1..=65).map(|port| format!("0:{port}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(shown(&many, &[], &[]).expect_err("too many").contains("65 forwards"));
        let (_, warnings) = shown(&["0.0.0.0:8080:80"], &[], &[]).expect("allowed");
        assert!(warnings[0].contains("beyond this host"), "{warnings:?}");
    }
}
