//! A client that holds the cube still, for a copy of its uppers.

use super::super::ground;
use super::super::protocol::Answer;
use super::{Connection, refused};
use crate::model::CubeState;

impl Connection {
    /// Who asks for it also ends it, at the latest by going.
    pub(super) async fn freeze(&mut self) -> Answer {
        if self.keeper.frozen_by.get().is_some() {
            return refused("the cube is held still already, by another command".into());
        }
        let number = self.keeper.number();
        self.keeper.frozen_by.set(Some(number));
        self.froze = Some(number);
        match ground::freeze(&self.keeper).await {
            Ok(()) => {
                self.keeper.record.borrow_mut().state = CubeState::Frozen;
                self.keeper.save();
                self.keeper.event("frozen", serde_json::Value::Null);
                Answer::Done
            }
            Err(message) => {
                self.keeper.frozen_by.set(None);
                self.froze = None;
                refused(message)
            }
        }
    }

    pub(super) fn thaw(&mut self) {
        if self.froze.take().is_some() {
            ground::thaw(&self.keeper);
            self.keeper.frozen_by.set(None);
            let mut record = self.keeper.record.borrow_mut();
            if record.state == CubeState::Frozen {
                record.state = CubeState::Running;
                drop(record);
                self.keeper.save();
                self.keeper.event("thawed", serde_json::Value::Null);
            }
        }
    }
}
