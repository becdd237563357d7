//! `lane ls`, `lane set`.

use super::Context;
use crate::cli::LaneCommand;
use crate::failure::Done;
use crate::render;
use api::lane::{LaneChange, LaneList};

/// `coconut lane …`.
pub fn lane(cx: &Context, lane: LaneCommand) -> Done {
    let client = cx.client()?;
    let lanes: LaneList = match lane {
        LaneCommand::Ls => client.get("/v1/lanes")?,
        LaneCommand::Set { tenant: true, who, weight } => {
            client.put("/v1/lanes", &LaneChange::Tenant { tenant: who, weight })?
        }
        LaneCommand::Set { tenant: false, who, weight } => {
            client.put("/v1/lanes", &LaneChange::Agent { agent: who, weight })?
        }
    };
    cx.out.answer("coconut.lane-ls/1", &lanes, |width| render::lanes::list(&lanes, width))?;
    Ok(0)
}
