//! Work that would keep a thread of the connections' from them: large bodies, long prompts.

use std::sync::LazyLock;
use tokio::sync::Semaphore;

/// Bytes that are worked through at once where they are; it takes less than handing them over.
const FEW: usize = 16 << 10;

/// So many at once: the engine computes on the same cores.
static AT_ONCE: LazyLock<Semaphore> = LazyLock::new(|| {
    Semaphore::new(std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
});

/// Does `work` on so many bytes; many of them on a thread of its own.
pub async fn aside<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    if bytes <= FEW {
        return work();
    }
    // It is never closed.
    let _turn = AT_ONCE.acquire().await;
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
