//! The first line of a script, read as the kernel reads it (`fs/binfmt_script.c`, Linux 6.18).

/// Bytes of a file that the kernel looks at (`BINPRM_BUF_SIZE`).
pub(crate) const HEAD: usize = 256;

/// How many scripts may lead to one another before a program comes (`exec_binprm`).
pub(crate) const DEPTH: usize = 5;

/// What the head of a file says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Head<'a> {
    /// No `#!` in front: a binary, or nothing that can be executed.
    Other,
    /// Executed by this program.
    Script(&'a [u8]),
    /// `#!` and no interpreter that could be told for sure: the kernel does not execute it.
    Unreadable,
}

/// Reads the head of a file, which is all of it if the file is shorter.
pub(crate) fn parse(head: &[u8]) -> Head<'_> {
    let Some(rest) = head.strip_prefix(b"#!") else { return Head::Other };
    // Behind the end of a shorter file the kernel's buffer holds NULs, which end a name.
    let full = head.len() >= HEAD;
    let newline = rest.iter().position(|&byte| byte == b'\n');
    let line = &rest[..newline.unwrap_or(rest.len())];
    let Some(start) = line.iter().position(|byte| !is_blank(*byte)) else {
        return Head::Unreadable;
    };
    let name = &line[start..];
    let end = name.iter().position(|&byte| is_blank(byte) || byte == 0);
    match end {
        Some(0) => Head::Unreadable,
        Some(end) => Head::Script(&name[..end]),
        // Cut off by the buffer: where the name ends cannot be seen.
        None if full && newline.is_none() => Head::Unreadable,
        None => Head::Script(name),
    }
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(head: &str) -> Head<'_> {
        parse(head.as_bytes())
    }

    #[test]
    fn one_interpreter_and_blanks_around_it() {
        let sh = Head::Script(b"/bin/sh");
        for head in [
            "#!/bin/sh",
            "#!/bin/sh\n",
            "#! /bin/sh -e \nexit",
            "#!\t /bin/sh\t\n",
            "#!/bin/sh\0x\n",
            "#!  /bin/sh one two",
        ] {
            assert_eq!(script(head), sh, "{head:?}");
        }
        assert_eq!(script("#!/bin/sh\r\n"), Head::Script(b"/bin/sh\r"));
    }

    #[test]
    fn what_is_no_script() {
        assert_eq!(script("\x7fELF"), Head::Other);
        assert_eq!(script("# !/bin/sh"), Head::Other);
        for head in ["#!", "#!\n/bin/sh", "#!  \t\n", "#!\0/bin/sh\n"] {
            assert_eq!(script(head), Head::Unreadable, "{head:?}");
        }
    }

    #[test]
    fn a_name_that_the_buffer_cuts_off_is_not_guessed() {
        let long = format!("#!/{}", "a".repeat(HEAD - 3));
        assert_eq!(script(&long), Head::Unreadable);
        let ends = format!("#!/{} ", "a".repeat(HEAD - 4));
        assert_eq!(script(&ends), Head::Script(&ends.as_bytes()[2..HEAD - 1]));
        let whole = format!("#!/{}", "a".repeat(HEAD - 4));
        assert_eq!(script(&whole), Head::Script(&whole.as_bytes()[2..]));
    }
}
