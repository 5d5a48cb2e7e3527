//! As much of Rust as the checks need: comments, strings, test items, modules and paths. No parser:
//! the formatter and the compiler have seen the text before.

/// The text with comments and the insides of strings blanked. Lines stay where they are.
pub fn without_comments(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => line_end(&chars, at),
            '/' if chars.get(at + 1) == Some(&'*') => comment_end(&chars, at),
            '"' => string_end(&chars, at),
            'r' | 'b' | 'c' if !joined(&chars, at) => raw_end(&chars, at).unwrap_or(at),
            '\'' => char_end(&chars, at).unwrap_or(at),
            _ => at,
        };
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// True when the character before belongs to the same name.
fn joined(chars: &[char], at: usize) -> bool {
    at > 0 && is_name(chars[at - 1])
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn line_end(chars: &[char], at: usize) -> usize {
    chars[at..].iter().position(|c| *c == '\n').map_or(chars.len(), |length| at + length)
}

fn comment_end(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string_end(chars: &[char], at: usize) -> usize {
    let mut next = at + 1;
    while next < chars.len() && chars[next] != '"' {
        next += if chars[next] == '\\' { 2 } else { 1 };
    }
    (next + 1).min(chars.len())
}

/// The end of `r#"…"#`, `br"…"` and so on, if that is what stands here.
fn raw_end(chars: &[char], at: usize) -> Option<usize> {
    let mut next = at;
    while matches!(chars.get(next), Some('b' | 'c')) {
        next += 1;
    }
    if chars.get(next) != Some(&'r') {
        return None;
    }
    let hashes = chars[next + 1..].iter().take_while(|c| **c == '#').count();
    next += 1 + hashes;
    if chars.get(next) != Some(&'"') {
        return None;
    }
    let close = |from: usize| chars[from..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
    (next + 1..chars.len()).find(|end| chars[*end] == '"' && close(*end + 1)).map(|end| end + 1 + hashes)
}

/// The end of a character; `None` for a lifetime.
fn char_end(chars: &[char], at: usize) -> Option<usize> {
    if chars.get(at + 1) == Some(&'\\') {
        let end = chars[at + 3..].iter().position(|c| *c == '\'')?;
        return Some(at + 3 + end + 1);
    }
    (chars.get(at + 2) == Some(&'\'')).then_some(at + 3)
}

const TEST: &str = "#[cfg(test)]";

/// The code without items that are only compiled for tests.
pub fn without_tests(code: &str) -> String {
    let mut rest = code;
    let mut out = String::with_capacity(code.len());
    while let Some(start) = rest.find(TEST) {
        let end = start + item_end(&rest[start..]);
        out.push_str(&rest[..start]);
        out.extend(rest[start..end].chars().filter(|c| *c == '\n'));
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

/// The end of the item that starts with an attribute: its `;` or the end of its block.
fn item_end(code: &str) -> usize {
    let mut depth = 0;
    for (at, c) in code.char_indices() {
        match c {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => {
                depth -= 1;
                if depth == 0 && c == '}' {
                    return at + 1;
                }
            }
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// The modules declared as files: name, and whether only for tests.
pub fn modules(code: &str) -> Vec<(String, bool)> {
    let lines: Vec<&str> = code.lines().map(str::trim).collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let bare = ["pub(crate) ", "pub(super) ", "pub "].iter().find_map(|p| line.strip_prefix(p));
        let Some(name) = bare.unwrap_or(line).strip_prefix("mod ").and_then(|m| m.strip_suffix(';')) else {
            continue;
        };
        let attributes = lines[..at].iter().rev().take_while(|line| line.starts_with("#["));
        found.push((name.to_owned(), attributes.into_iter().any(|line| *line == TEST)));
    }
    found
}

/// Every path of two names or more (`a::b`), groups spelled out, with its line.
pub fn paths(code: &str) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    for (number, start) in starts(code) {
        path(&code[start..], &mut Vec::new(), &mut |names| found.push((number, names.to_vec())));
    }
    found.retain(|(_, names)| names.len() > 1);
    found
}

/// Where names start that are not the second part of a path: line number and offset.
fn starts(code: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut line = 1;
    let (mut before, mut before_that) = (' ', ' ');
    for (at, c) in code.char_indices() {
        if c == '\n' {
            line += 1;
        }
        if is_name(c) && !is_name(before) && !(before == ':' && before_that == ':') {
            found.push((line, at));
        }
        (before_that, before) = (before, c);
    }
    found
}

/// Reads one path with its groups; returns the rest.
fn path<'a>(code: &'a str, prefix: &mut Vec<String>, found: &mut dyn FnMut(&[String])) -> &'a str {
    let length = code.find(|c| !is_name(c)).unwrap_or(code.len());
    let (name, mut rest) = code.split_at(length);
    if !name.is_empty() {
        prefix.push(name.to_owned());
    }
    if let Some(more) = rest.strip_prefix("::").map(str::trim_start) {
        rest = match more.strip_prefix('{') {
            Some(group) => members(group, prefix, found),
            None => path(more, prefix, found),
        };
    } else {
        found(prefix);
    }
    if !name.is_empty() {
        prefix.pop();
    }
    rest
}

fn members<'a>(mut rest: &'a str, prefix: &mut Vec<String>, found: &mut dyn FnMut(&[String])) -> &'a str {
    loop {
        rest = path(rest.trim_start(), prefix, found);
        // Past `as x`, `*` and whatever else a group may hold.
        let next = rest.find([',', '}']).unwrap_or(rest.len());
        match rest[next..].chars().next() {
            Some(',') => rest = &rest[next + 1..],
            Some(_) => return &rest[next + 1..],
            None => return "",
        }
        if let Some(end) = rest.trim_start().strip_prefix('}') {
            return end;
        }
    }
}
