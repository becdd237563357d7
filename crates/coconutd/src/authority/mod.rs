//! Who answers for what: the one place where what is asked for is compared with what somebody may
//! give.
//!
//! [`access`] says who may do what to whom, [`source`] whose manifest a spawn has, [`trust`] whose
//! signature counts, [`key`] what the signer may grant, [`users`] whom an agent may run as. With
//! the parent the supervisor compares, at admission. All compare what names led to, not names.

pub mod access;
pub mod key;
pub mod source;
pub mod trust;
pub mod users;
