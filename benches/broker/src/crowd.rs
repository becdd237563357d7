//! Several tenants at one server at the same time.

use crate::tenant::{Load, Seen, Window, run_until};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The tenant whose answers nobody waits for.
pub const FLOODER: &str = "flood";

/// Runs all loads at once; each names its tenant in a header. What was seen, in the order of `loads`.
///
/// The flooder's requests stay with the server until the others have their answers: taken back at the
/// end of the window they would free the queue, and the last quiet requests would look fast.
pub async fn run(loads: &[Load], url: &str, model: &str, window: Window) -> Vec<Seen> {
    let (answered, _) = watch::channel(false);
    let (mut quiet, mut flood) = (JoinSet::new(), JoinSet::new());
    for (nth, load) in loads.iter().enumerate() {
        let (load, target) = (load.clone(), load.target(url, model));
        let mut others = answered.subscribe();
        let tenants = if load.tenant == FLOODER { &mut flood } else { &mut quiet };
        tenants.spawn(async move {
            let enough = async { drop(others.wait_for(|all| *all).await) };
            run_until(&load, &target, window, nth as u64 * 1000 + 1, enough).await
        });
    }
    let mut seen = quiet.join_all().await;
    answered.send_replace(true);
    seen.extend(flood.join_all().await);
    seen.sort_by_key(|s| loads.iter().position(|l| l.tenant == s.tenant));
    seen
}
