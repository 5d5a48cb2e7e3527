use super::*;

fn find(name: &str) -> Option<String> {
    built_in(name).map(str::to_owned)
}

fn parse(text: &str) -> Result<Theme, String> {
    parse_theme("x", Path::new("x.toml"), text, &find).map_err(|error| error.to_string())
}

#[test]
fn mistakes_are_told_with_their_place() {
    for (text, says) in [
        ("[roles]\ntext = \"rde\"", "x.toml:2:8: `rde` is no colour"),
        ("[roles]\ntext = { fgg = \"red\" }", "x.toml:2:10: unknown key `fgg`"),
        ("[roles]\ntext = { mods = [\"blod\"] }", "`blod` is no attribute"),
        ("inherits = \"nobody\"", "there is no theme `nobody`"),
        ("colour = 1", "x.toml:1:1: unknown key `colour`"),
        ("variant = \"grey\"", "`variant` is `dark` or `light`"),
    ] {
        let error = parse(text).expect_err(text);
        assert!(error.contains(says), "{text}: {error}");
    }
    let circle = |_: &str| Some("inherits = \"x\"".to_owned());
    let error = parse_theme("x", Path::new("x.toml"), "inherits = \"x\"", &circle).expect_err("a circle");
    assert!(error.to_string().contains("circle"), "{error}");
    let theme = parse(
        "inherits = \"default\"\n[palette]\nsea = \"#0a0b0c\"\n[roles]\naccent = \"sea\"\ntxet = \"red\"",
    )
    .expect("usable");
    assert_eq!(theme.roles["accent"].fg, Some(Colour::Rgb(10, 11, 12)));
    assert_eq!(theme.roles["ok"].fg, Some(Colour::Index(2)), "inherited");
    assert!(
        theme.warnings[0].contains("x.toml:6:1: unknown role `txet` (did you mean `text`?)"),
        "{theme:?}"
    );
}

/// WCAG's relative luminance.
fn luminance(red: u8, green: u8, blue: u8) -> f64 {
    let linear = |part: u8| {
        let part = f64::from(part) / 255.0;
        if part <= 0.03928 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue)
}

#[test]
fn built_in_themes_are_whole_and_can_be_read() {
    for (name, text) in BUILT_IN {
        let theme = parse_theme(name, Path::new(name), text, &find).expect(name);
        assert_eq!(theme.warnings, Vec::<String>::new(), "{name}");
        assert_eq!(theme.roles.len(), ROLES.len(), "{name}");
        let Some(Colour::Rgb(r, g, b)) = theme.roles["text"].bg else {
            let own = |paint: &Paint| {
                [paint.fg, paint.bg]
                    .iter()
                    .flatten()
                    .all(|c| matches!(c, Colour::Default | Colour::Index(0..16)))
            };
            assert!(
                theme.roles.values().all(own),
                "{name} has no ground of its own: only the terminal's colours"
            );
            continue;
        };
        let ground = luminance(r, g, b);
        assert_eq!(ground > 0.5, theme.light, "{name}");
        let wanted = if name.starts_with("high-contrast") { 7.0 } else { 4.5 };
        for (role, paint) in &theme.roles {
            if role.starts_with("border") {
                continue;
            }
            let Some(Colour::Rgb(r, g, b)) = paint.fg else { continue };
            let ground = match paint.bg {
                Some(Colour::Rgb(r, g, b)) => luminance(r, g, b),
                _ => ground,
            };
            let (high, low) = (luminance(r, g, b).max(ground), luminance(r, g, b).min(ground));
            let contrast = (high + 0.05) / (low + 0.05);
            assert!(contrast >= wanted, "{name}: {role} has a contrast of {contrast:.1}");
        }
        // What is selected differs by more than its colour, or by its ground.
        let selection = &theme.roles["selection"];
        assert!(selection.bg.is_some() || selection.mods.contains(&"reverse"), "{name}");
    }
}
