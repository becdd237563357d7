//! `lane ls`, `lane set`.

use super::Context;
use crate::cli::Lane;
use crate::failure::Done;
use crate::render;
use api::lane::{LaneChange, LaneList};

/// `coconut lane …`.
pub fn lane(cx: &Context, lane: Lane) -> Done {
    let client = cx.client()?;
    let lanes: LaneList = match lane {
        Lane::Ls => client.get("/v1/lanes")?,
        Lane::Set { tenant: true, who, weight } => {
            client.put("/v1/lanes", &LaneChange::Tenant { tenant: who, weight })?
        }
        Lane::Set { tenant: false, who, weight } => {
            client.put("/v1/lanes", &LaneChange::Agent { agent: who, weight })?
        }
    };
    cx.out.answer("coconut.lane-ls/1", &lanes, |width| render::lanes::list(&lanes, width))?;
    Ok(0)
}
