//! No code: the features that tests want of shared dependencies, switched on in every build of the workspace. What
//! is tested is what is packaged, and what programs stand on is compiled once.

use api as _;
use regex_syntax as _;
use serde as _;
use tokio as _;
use tokio_rustls as _;
use url as _;
use zerocopy as _;
