//! Absolute, normalised paths: the same file has one spelling, and no `..` escapes a subtree.

use crate::limits;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// True if a part of it would read as an expiry or a number of uses.
pub(crate) fn is_ambiguous(text: &str) -> bool {
    text.contains(";expires=") || text.contains(";uses=")
}

/// An absolute path without `.`, `..`, empty components or control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AbsPath(String);

/// Why a text is no [`AbsPath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum PathError {
    #[error("the path `{0}` is not absolute")]
    Relative(String),
    #[error("the path `{0}` has a `..`")]
    Parent(String),
    #[error("the path has a control character")]
    Control,
    #[error("the path has `;expires=` or `;uses=` in it, which would not read as a part of it")]
    Ambiguous,
    #[error("the path is longer than {} bytes", limits::PATH_BYTES)]
    Long,
}

impl AbsPath {
    /// Normalises `text`: repeated and trailing slashes and `.` go, `..` is refused.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        if text.len() > limits::PATH_BYTES {
            return Err(PathError::Long);
        }
        if text.chars().any(char::is_control) {
            return Err(PathError::Control);
        }
        if is_ambiguous(text) {
            return Err(PathError::Ambiguous);
        }
        if !text.starts_with('/') {
            return Err(PathError::Relative(text.to_owned()));
        }
        let mut path = String::with_capacity(text.len());
        for component in text.split('/').filter(|c| !c.is_empty() && *c != ".") {
            if component == ".." {
                return Err(PathError::Parent(text.to_owned()));
            }
            path.push('/');
            path.push_str(component);
        }
        if path.is_empty() {
            path.push('/');
        }
        Ok(AbsPath(path))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// For the file system.
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }

    /// The folder that it lies in; none for `/`.
    pub fn parent(&self) -> Option<AbsPath> {
        let (folder, name) = self.0.rsplit_once('/')?;
        let folder = if folder.is_empty() { "/" } else { folder };
        (!name.is_empty()).then(|| AbsPath(folder.to_owned()))
    }

    /// True if `self` is `tree` or lies below it, by components: `/srv/inputs` is not below `/srv/input`.
    pub fn is_below(&self, tree: &AbsPath) -> bool {
        match self.0.strip_prefix(tree.0.as_str()) {
            Some(rest) => rest.is_empty() || rest.starts_with('/') || tree.0 == "/",
            None => false,
        }
    }
}

impl fmt::Display for AbsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for AbsPath {
    type Err = PathError;
    fn from_str(text: &str) -> Result<Self, PathError> {
        Self::parse(text)
    }
}

impl AsRef<Path> for AbsPath {
    fn as_ref(&self) -> &Path {
        self.as_path()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> AbsPath {
        AbsPath::parse(text).unwrap()
    }

    #[test]
    fn one_spelling() {
        assert_eq!(path("/srv//input/./a/").as_str(), "/srv/input/a");
        assert_eq!(path("//").as_str(), "/");
    }

    #[test]
    fn escapes_are_refused() {
        assert!(matches!(AbsPath::parse("/srv/../etc"), Err(PathError::Parent(_))));
        assert!(matches!(AbsPath::parse("srv"), Err(PathError::Relative(_))));
        assert!(matches!(AbsPath::parse(""), Err(PathError::Relative(_))));
        assert!(matches!(AbsPath::parse("/a\0b"), Err(PathError::Control)));
        assert!(matches!(AbsPath::parse("/a;expires=1s"), Err(PathError::Ambiguous)));
        assert!(matches!(AbsPath::parse("/a;uses=1"), Err(PathError::Ambiguous)));
        assert!(matches!(AbsPath::parse(&"/a".repeat(3000)), Err(PathError::Long)));
    }

    #[test]
    fn a_path_lies_in_its_folder() {
        assert_eq!(path("/srv/input").parent(), Some(path("/srv")));
        assert_eq!(path("/srv").parent(), Some(path("/")));
        assert_eq!(path("/").parent(), None);
    }

    #[test]
    fn containment_is_by_components() {
        assert!(path("/srv/input/a").is_below(&path("/srv/input")));
        assert!(path("/srv/input").is_below(&path("/srv/input")));
        assert!(!path("/srv/inputs").is_below(&path("/srv/input")));
        assert!(!path("/srv").is_below(&path("/srv/input")));
        assert!(path("/etc").is_below(&path("/")));
    }
}
