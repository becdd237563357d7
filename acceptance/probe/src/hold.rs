//! Holds an open file, a mapping or an established connection and uses it until it is refused.

use crate::{say, sys};
use anyhow::{Context, bail};
use probe::{Held, errno_name};
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What to hold; exactly one.
#[derive(clap::Args)]
#[group(required = true, multiple = false, id = "what")]
struct What {
    /// Read this file through one descriptor, again and again.
    #[arg(long)]
    file: Option<PathBuf>,
    /// Read this file's mapping; no syscall tells the kernel.
    #[arg(long)]
    mmap: Option<PathBuf>,
    /// Send to this listener and read its echo over one connection.
    #[arg(long)]
    socket: Option<String>,
    /// Read this file through io_uring, by a descriptor that the ring holds.
    #[arg(long)]
    uring: Option<PathBuf>,
}

/// `coconut-probe hold`.
#[derive(clap::Args)]
pub struct Hold {
    #[command(flatten)]
    what: What,
    /// Give up after so many seconds.
    #[arg(long, default_value_t = 3600)]
    limit: u64,
    /// Use it once more when stdin has ended, and give up.
    #[arg(long)]
    until_eof: bool,
    /// Microseconds between two uses; 0 is as fast as can be.
    #[arg(long, default_value_t = 0)]
    every_us: u64,
}

impl Hold {
    /// Exit status 0: it was refused. 1: it was never refused.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        match &self.what {
            What { file: Some(path), .. } => {
                let file = File::open(path).with_context(|| path.display().to_string())?;
                self.repeat("file", || read_one(&file))
            }
            What { mmap: Some(path), .. } => {
                let file = File::open(path).with_context(|| path.display().to_string())?;
                let mapping = sys::Mapping::of(file.as_fd())?;
                drop(file);
                let mut index = 0;
                self.repeat("mmap", || {
                    index += 1;
                    std::hint::black_box(mapping.byte(index));
                    Ok(())
                })
            }
            What { socket: Some(address), .. } => {
                let mut stream = TcpStream::connect(address).context("connect")?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(Duration::from_secs(600)))?;
                self.repeat("socket", || echo(&mut stream))
            }
            What { uring: Some(path), .. } => {
                let file = File::open(path).with_context(|| path.display().to_string())?;
                let mut ring = crate::attempts::uring::Ring::new()?;
                self.repeat("uring", || ring.read_one(&file))
            }
            _ => bail!("nothing to hold"),
        }
    }

    fn repeat(
        &self,
        held: &str,
        mut use_once: impl FnMut() -> io::Result<()>,
    ) -> anyhow::Result<ExitCode> {
        use_once().context("refused at the first use")?;
        let mut line = Held {
            held: held.to_owned(),
            event: "holding".to_owned(),
            at_ns: sys::boottime_ns(),
            last_ok_ns: sys::boottime_ns(),
            uses: 1,
            errno: None,
        };
        say(&line)?;
        let end = Instant::now() + Duration::from_secs(self.limit);
        let mut last = false;
        while !last && Instant::now() < end {
            last = self.until_eof && sys::stdin_ended()?;
            match use_once() {
                Ok(()) => line.last_ok_ns = sys::boottime_ns(),
                Err(error) => {
                    line.at_ns = sys::boottime_ns();
                    line.event = "refused".to_owned();
                    line.errno = error.raw_os_error().map(errno_name);
                    say(&line)?;
                    return Ok(ExitCode::SUCCESS);
                }
            }
            line.uses += 1;
            if self.every_us > 0 {
                std::thread::sleep(Duration::from_micros(self.every_us));
            }
        }
        line.at_ns = sys::boottime_ns();
        line.event = "gave-up".to_owned();
        say(&line)?;
        Ok(ExitCode::from(1))
    }
}

fn read_one(file: &File) -> io::Result<()> {
    let mut byte = [0u8];
    match file.read_at(&mut byte, 0)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

fn echo(stream: &mut TcpStream) -> io::Result<()> {
    let mut byte = *b"x";
    stream.write_all(&byte)?;
    stream.read_exact(&mut byte)
}
