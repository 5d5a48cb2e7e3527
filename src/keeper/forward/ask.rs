//! What clients ask of the forwards, and what is written down of them: the record and the events.

use serde_json::{Value, json};

use crate::keeper::protocol::Answer;
use crate::keeper::state::Keeper;
use crate::model::{Failure, ForwardStatus, PortMap};

/// Opens one; what is not kept is noted in `held`.
pub fn open(keeper: &Keeper, map: PortMap, exact: bool, kept: bool, held: &mut Vec<u32>) -> Answer {
    if *keeper.over.borrow() {
        return refused(&Failure::failed("the cube has ended"));
    }
    match keeper.forwards.open(map, exact, kept) {
        Ok(status) => {
            if !kept {
                held.push(status.id);
            }
            noted(keeper);
            keeper.event("forward-opened", opened(&status));
            Answer::Forwarded(Box::new(status))
        }
        Err(failure) => refused(&failure),
    }
}

/// Closes one.
pub async fn close(keeper: &Keeper, id: u32) -> Answer {
    match keeper.forwards.close(id).await {
        Some(status) => {
            noted(keeper);
            keeper.event("forward-closed", closed(&status));
            Answer::Forwarded(Box::new(status))
        }
        None => refused(&Failure::failed(format!("there is no forward {id}"))),
    }
}

/// Events for what was opened with the cube.
pub fn opened_at_launch(keeper: &Keeper) {
    for status in keeper.forwards.list() {
        keeper.event("forward-opened", opened(&status));
    }
}

/// The cube has ended: all are closed.
pub fn end(keeper: &Keeper) {
    let open = keeper.forwards.list();
    keeper.forwards.over();
    for status in open {
        keeper.event("forward-closed", closed(&status));
    }
    keeper.record.borrow_mut().forwards.clear();
}

fn noted(keeper: &Keeper) {
    keeper.record.borrow_mut().forwards = keeper.forwards.maps();
    keeper.save();
}

fn opened(status: &ForwardStatus) -> Value {
    json!({
        "id": status.id,
        "host": status.map.host.to_string(),
        "cube": status.map.cube.to_string(),
        "public": status.map.is_public(),
    })
}

fn closed(status: &ForwardStatus) -> Value {
    json!({
        "id": status.id,
        "host": status.map.host.to_string(),
        "cube": status.map.cube.to_string(),
        "connections": status.made,
        "refused": status.refused,
        "bytes_in": status.bytes_in,
        "bytes_out": status.bytes_out,
    })
}

fn refused(failure: &Failure) -> Answer {
    Answer::Refused { message: failure.to_string(), hints: failure.hints.clone() }
}
