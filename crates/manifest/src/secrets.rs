//! Command lines without the secrets in them: what may be shown and recorded.
//!
//! A record is signed and kept; a password that stood on a command line would stay in it for ever. What is
//! taken for a secret: the values of options, variables, headers and query fields whose names say so,
//! passwords in URLs, and tokens that are known by their form. A value that is one anywhere is left out
//! everywhere in the command line. What has no such mark cannot be told from an ordinary word.

/// Stands where a secret was.
pub const MASK: &str = "***";

/// Secrets of one command line that are looked for in all of it; with more of them none of it is shown. A
/// line may have millions of characters, and each is looked at once for each secret.
const MOST: usize = 32;

/// Names, or ends of names, whose values are secrets.
const WORDS: [&str; 12] = [
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "secret",
    "token",
    "apikey",
    "credential",
    "credentials",
    "creds",
    "bearer",
    "jwt",
];
/// Names of which only the whole says that.
const WHOLE: [&str; 10] =
    ["pass", "pwd", "pw", "auth", "authorization", "cookie", "sig", "otp", "pin", "passin"];
/// What makes a `key` a secret one.
const KEYS: [&str; 14] = [
    "api",
    "access",
    "secret",
    "private",
    "auth",
    "encryption",
    "signing",
    "master",
    "account",
    "license",
    "service",
    "shared",
    "admin",
    "storage",
];
/// Ends of names whose values say where a secret is, or how it has to be.
const ABOUT: [&str; 21] = [
    "file", "path", "dir", "url", "uri", "command", "cmd", "env", "var", "stdin", "fd", "prompt",
    "name", "id", "type", "ttl", "length", "limit", "policy", "store", "helper",
];
/// Between the name of a header and what it holds.
const SCHEMES: [&str; 4] = ["bearer", "basic", "token", "digest"];
/// Beginnings of tokens, and how many more characters follow at least.
const FORMS: [(&str, usize); 20] = [
    ("ghp_", 20),
    ("gho_", 20),
    ("ghu_", 20),
    ("ghs_", 20),
    ("ghr_", 20),
    ("github_pat_", 20),
    ("glpat-", 16),
    ("sk-", 20),
    ("sk_live_", 16),
    ("rk_live_", 16),
    ("xoxb-", 16),
    ("xoxp-", 16),
    ("AKIA", 16),
    ("ASIA", 16),
    ("AIza", 30),
    ("hf_", 20),
    ("npm_", 20),
    ("pypi-", 20),
    ("dop_v1_", 20),
    ("eyJ", 30),
];
/// Programs whose `-pVALUE` is a password.
const DASH_P: [&str; 6] =
    ["mysql", "mysqldump", "mysqladmin", "mariadb", "mariadb-dump", "sshpass"];

/// The command line with [`MASK`] in place of every secret.
pub fn masked(command: &[String]) -> Vec<String> {
    let mut found = Found::default();
    let program = command.first().map_or("", |path| path.rsplit('/').next().unwrap_or(path));
    found.dash_p = DASH_P.contains(&program);
    for word in command.iter().skip(1).flat_map(|argument| words(argument)) {
        found.word(word);
    }
    let mut secrets = found.secrets;
    secrets.sort_by_key(|secret| (std::cmp::Reverse(secret.len()), *secret));
    secrets.dedup();
    if secrets.len() > MOST {
        let hidden = command.iter().skip(1).map(|_| MASK.to_owned());
        return command.first().cloned().into_iter().chain(hidden).collect();
    }
    let hide =
        |text: &String| secrets.iter().fold(text.clone(), |text, secret| without(&text, secret));
    command
        .iter()
        .enumerate()
        .map(|(at, text)| if at == 0 { text.clone() } else { hide(text) })
        .collect()
}

/// An argument may be a whole script.
fn words(argument: &str) -> impl Iterator<Item = &str> {
    let splits = |c: char| c.is_whitespace() || "'\"`;|()<>".contains(c);
    argument.split(splits).filter(|word| !word.is_empty())
}

/// Short ones only where they stand alone: else every `1` would go with a password of that length.
fn without(text: &str, secret: &str) -> String {
    if secret.len() >= 4 {
        return text.replace(secret, MASK);
    }
    let (mut out, mut rest, mut before) = (String::new(), text, None);
    while let Some(at) = rest.find(secret) {
        let (head, tail) = (&rest[..at], &rest[at + secret.len()..]);
        let edge = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric());
        let alone = edge(head.chars().next_back().or(before)) && edge(tail.chars().next());
        out.push_str(head);
        out.push_str(if alone { MASK } else { secret });
        (rest, before) = (tail, secret.chars().next_back());
    }
    out + rest
}

#[derive(Default)]
struct Found<'a> {
    secrets: Vec<&'a str>,
    /// The word before said what comes next.
    next: Next,
    dash_p: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Next {
    #[default]
    Word,
    Secret,
    /// `user:password`, of curl and others.
    User,
}

impl<'a> Found<'a> {
    fn word(&mut self, word: &'a str) {
        let next = std::mem::take(&mut self.next);
        if next == Next::Secret && SCHEMES.iter().any(|scheme| word.eq_ignore_ascii_case(scheme)) {
            self.next = Next::Secret;
            return;
        }
        match next {
            Next::Secret if !word.starts_with("--") => return self.secret(word),
            Next::User => self.secret(word.split_once(':').map_or("", |(_, secret)| secret)),
            _ => {}
        }
        self.option(word);
        self.url(word);
        for part in word.split(['?', '&', ',']) {
            self.pair(part, '=');
            self.pair(part, ':');
            self.form(part.rsplit(['=', ':', '/', '@']).next().unwrap_or(part));
        }
    }

    fn option(&mut self, word: &'a str) {
        let name = word.trim_start_matches('-').trim_end_matches(':');
        let bare = !word.contains('=') && (word.starts_with('-') || word.ends_with(':'));
        if bare && is_secret(name) {
            self.next = Next::Secret;
        } else if matches!(word, "-u" | "--user" | "--proxy-user" | "-U") {
            self.next = Next::User;
        }
        let Some(value) = word.strip_prefix("-p").filter(|_| !word.starts_with("--")) else {
            return;
        };
        let mixed = value.contains(|c: char| c.is_ascii_digit())
            && value.contains(|c: char| c.is_ascii_alphabetic())
            && !value.contains(['/', ':', '=']);
        if self.dash_p || mixed {
            self.secret(value);
        }
    }

    fn pair(&mut self, part: &'a str, sign: char) {
        let Some((name, value)) = part.split_once(sign) else { return };
        let value = value.trim_start_matches(sign);
        if is_secret(name.trim_start_matches('-')) && !value.starts_with("//") {
            self.secret(value);
        }
    }

    /// `scheme://user:password@host`, and a token alone before the `@`.
    fn url(&mut self, word: &'a str) {
        let Some((_, rest)) = word.split_once("://") else { return };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        // A password may hold an `@` or, unescaped, a `/`; then what comes before that is no port.
        let odd = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_err());
        let user = authority
            .rsplit_once('@')
            .or_else(|| rest.rsplit_once('@').filter(|_| odd))
            .map(|(user, _)| user);
        match user.map(|user| user.split_once(':').ok_or(user)) {
            Some(Ok((_, password))) => self.secret(password),
            Some(Err(token)) if token.len() >= 16 => self.secret(token),
            _ => {}
        }
    }

    fn form(&mut self, part: &'a str) {
        let known = |(start, more): &(&str, usize)| {
            part.strip_prefix(start).is_some_and(|rest| {
                let token = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
                rest.len() >= *more && rest.chars().all(token)
            })
        };
        if FORMS.iter().any(known) {
            self.secret(part);
        }
    }

    fn secret(&mut self, text: &'a str) {
        // A variable's name tells nothing.
        if !text.is_empty() && text != MASK && !text.starts_with('$') {
            self.secrets.push(text);
        }
    }
}

/// Whether a name says that its value is a secret.
fn is_secret(name: &str) -> bool {
    let name = spaced(name);
    let parts: Vec<&str> =
        name.split(|c: char| !c.is_alphanumeric()).filter(|p| !p.is_empty()).collect();
    let (Some(first), Some(last)) = (parts.first(), parts.last()) else { return false };
    if ABOUT.contains(last) || ["no", "without", "ask", "max"].contains(first) {
        return false;
    }
    let says = |part: &&str| WORDS.iter().any(|word| part.ends_with(word));
    let key = parts.windows(2).any(|two| KEYS.contains(&two[0]) && two[1] == "key")
        || KEYS.iter().any(|kind| *last == format!("{kind}key"));
    key || parts.iter().any(says) || WHOLE.contains(last)
}

/// `apiKey` as `api-key`, in small letters.
fn spaced(name: &str) -> String {
    let mut out = String::new();
    let mut small = false;
    for c in name.chars() {
        if small && c.is_ascii_uppercase() {
            out.push('-');
        }
        small = c.is_ascii_lowercase();
        out.push(c.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: &str = "hunter2-Zx81Q";

    fn shown(line: &[&str]) -> String {
        masked(&line.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).join(" ")
    }

    #[test]
    fn no_secret_is_left_however_it_was_handed_over() {
        let token = "ghp_0123456789abcdefghijABCDEFGHIJ012345";
        let at = |text: &str| text.replace("SECRET", S);
        for line in [
            vec!["x", "--password", S],
            vec!["x", &at("--password=SECRET")],
            vec!["x", "-password", S],
            vec!["x", &at("DB_PASSWORD=SECRET"), "run"],
            vec!["x", "--dbPassword", S],
            vec!["x", "--api-key", S, "--verbose"],
            vec!["x", &at("--apikey=SECRET")],
            vec!["x", "--aws-secret-access-key", S],
            vec!["x", &at("https://bob:SECRET@git.example/x")],
            vec!["x", &at("https://bob:a/SECRET@git.example/x")],
            vec!["x", &at("postgres://u:SECRET@db:5432/a?sslmode=off")],
            vec!["x", &at("https://api.example/v1?user=a&access_token=SECRET&b=c")],
            vec!["x", &at("-pSECRET")],
            vec!["/usr/bin/mysql", "-psimple"],
            vec!["curl", "-u", &at("bob:SECRET"), "https://x"],
            vec!["curl", "-H", &at("Authorization: Bearer SECRET"), "https://x"],
            vec!["curl", "-H", &at("X-Api-Key:SECRET")],
            vec![
                "bash",
                "-c",
                &at("export TOKEN='SECRET'; curl -H \"Authorization: Basic SECRET\" x"),
            ],
            vec!["openssl", "rsa", "-passin", &at("pass:SECRET")],
            vec!["x", "git", token],
            vec!["x", &format!("https://{token}@git.example/x")],
            vec!["x", "--pin", "12"],
        ] {
            let text = shown(&line);
            assert!(text.contains(MASK), "{line:?}: {text}");
            let secrets = [S, token, "simple", "--pin 12"];
            assert!(!secrets.iter().any(|secret| text.contains(secret)), "{line:?}: {text}");
        }
        // Known from one place, it is left out in all.
        assert_eq!(shown(&["x", "--token", S, S, &at("a/SECRET/b")]), "x --token *** *** a/***/b");
        assert_eq!(shown(&["x", "--pin", "1", "a1", "1", "x=1"]), "x --pin *** a1 *** x=***");
    }

    #[test]
    fn what_is_no_secret_stays() {
        for line in [
            vec!["find", "/srv", "-path", "*.rs", "-print"],
            vec!["ssh", "-p", "2222", "-p2222", "maya@host"],
            vec!["docker", "run", "-p8080:80", "image"],
            vec!["x", "--max-tokens", "100", "--tokenizer", "gpt2", "--key-file", "/etc/k"],
            vec!["x", "--password-file", "/run/secret", "--token-limit=5", "--no-password", "y"],
            vec!["python3", "-c", "print('pass')"],
            vec!["x", "--password", "$PASSWORD", "https://host:8080/a@b"],
            vec!["sort", "-k2", "--key=3", "author:maya", "https://example.org/pass/x"],
            vec!["/opt/password", "x"],
        ] {
            assert_eq!(shown(&line), line.join(" "));
        }
    }

    #[test]
    fn a_line_full_of_secrets_costs_no_more_than_its_length() {
        let many: Vec<String> = (0..100_000).map(|n| format!("--token=secret{n}")).collect();
        let line = ["x".to_owned(), many.join(" "), "y".to_owned()];
        assert_eq!(masked(&line), ["x", MASK, MASK]);
    }

    proptest::proptest! {
        #[test]
        fn no_command_line_breaks_it(line in proptest::collection::vec("[-=:@/&?'a-z€1 ]{0,12}", 0..6)) {
            let out = masked(&line);
            proptest::prop_assert_eq!(out.len(), line.len());
        }
    }
}
