//! What rules name, opened once.
//!
//! A name leads to something else whenever somebody wants it to. So each is looked up in one place,
//! here, and once: a path becomes an open descriptor, a program the very file that was hashed, a
//! host name its addresses of that moment. What comes out is what is compared (with the key that
//! signed, with the parent, with the manifest) and what the kernel gets; nobody asks for the name
//! again.
//!
//! | module | from | to |
//! |---|---|---|
//! | [`paths`] | a path | descriptor, real path, kind |
//! | [`programs`] | `command[0]` | file, real path, SHA-256, interpreter; held until it runs |
//! | [`names`] | a host name | addresses, without making others wait |
//! | [`targets`] | a rule | the rule with the real path, and what the kernel decides by |
//! | [`following`] | paths of system origin | which of them may lead elsewhere now |
//!
//! The kernel is known by two traits: [`targets::Handles`] and [`programs::Leases`].
//!
//! ```
//! use resolve::names::{Names, Settings};
//! use resolve::targets::{Absent, Handles, Resolver, Target};
//! use std::{convert::Infallible, os::fd::OwnedFd, sync::Arc};
//!
//! struct Kernel;
//! impl Handles for Kernel {
//!     type Handle = OwnedFd;
//!     type Error = Infallible;
//!     fn handle(&self, fd: OwnedFd) -> Result<OwnedFd, Infallible> {
//!         Ok(fd)
//!     }
//! }
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let resolver = Resolver::new(Arc::new(Kernel), Names::new(Settings::default()));
//! let asked = "fs.read=/dev/null".parse().unwrap();
//! let resolved = resolver.rule("maya", &asked, Absent::Refused).await.unwrap();
//! assert!(matches!(resolved.target, Target::File(_)));
//! assert_eq!(resolved.rule.to_string(), "fs.read=/dev/null");
//! # });
//! ```
//!
//! Starting a program and following names, with what the daemon does in between as comments:
//!
//! ```no_run
//! # use manifest::AbsPath;
//! # use resolve::{following::Following, programs::{Leases, Programs, REMEMBERED}};
//! # use std::{error::Error, sync::Arc};
//! # async fn daemon(leases: Arc<dyn Leases>, command: AbsPath) -> Result<(), Box<dyn Error>> {
//! let programs = Programs::start(leases, REMEMBERED)?; // before any lease: it handles SIGIO
//! let opener = Arc::clone(&programs);
//! let program = tokio::task::spawn_blocking(move || opener.open(&command)).await??;
//! // Compare program.chain() (real paths, digests) with manifest, parent and key; say so if
//! // program.guarded() is false; execute program.file, the interpreter's if there is one.
//! drop(program); // it runs: whoever waits to write goes on
//!
//! let following = Following::new(1_024)?;
//! following.add(&AbsPath::parse("/etc/hosts")?)?; // first this, then resolve the rule
//! loop {
//!     let _path = following.changed().await?;
//!     // Resolve the rules of system origin that name it, and give the kernel the new handle.
//! }
//! # }
//! ```

pub mod following;
pub mod names;
pub mod paths;
pub mod programs;
pub mod targets;
