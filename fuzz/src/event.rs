//! Events of the kernel's ring, and what they name.

use abi::event::{Event, Hook, SockObject};
use zerocopy::{FromBytes, IntoBytes};

/// The bytes as an event, as the ring's reader takes it.
pub fn event(bytes: &[u8]) {
    let Ok((event, rest)) = Event::read_from_prefix(bytes) else {
        assert!(bytes.len() < size_of::<Event>(), "an event that is long enough is not read");
        return;
    };
    assert_eq!([event.as_bytes(), rest].concat(), bytes, "something of it is lost");
    if let Ok(hook) = Hook::try_from(event.hook) {
        assert_eq!(hook as u32, event.hook);
    }
    let state = abi::AgentState::try_from(event.wanted);
    assert!(state.is_err() || state.is_ok_and(|state| state as u32 == event.wanted));
    if let Ok(capability) = abi::Capability::try_from(event.wanted) {
        assert_eq!(capability.name().parse::<abi::Capability>().ok(), Some(capability));
    }
    let (socket, _) = SockObject::read_from_prefix(&event.object).unwrap();
    assert!(event.object.starts_with(socket.as_bytes()));
    let agent = abi::AgentId(event.aid);
    assert_eq!(abi::AgentId::new(agent.slot(), agent.generation()), agent);
}
