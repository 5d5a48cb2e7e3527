//! The nouns of tripmine. Pure values: parsing makes them, nothing here touches the machine.

pub mod bytes;
pub mod carry;
pub mod cube;
pub mod env;
pub mod failure;
pub mod forward;
pub mod host;
pub mod image;
pub mod layer;
pub mod limits;
pub mod machine;
pub mod name;
pub mod net;
pub mod sanitize;
pub mod spec;
pub mod trip_id;
pub mod verbs;
pub mod words;

pub use bytes::ByteSize;
pub use carry::{CarryGroup, CarryPattern};
pub use cube::{CubeRecord, CubeState, ExitReason, ExitRecord, Keep};
pub use env::EnvVar;
pub use failure::{Failure, FailureKind};
pub use forward::{BindAddr, CubeEnd, ForwardStatus, HostEnd, Listening, PortMap};
pub use image::ImageRef;
pub use layer::{Enforcement, Layer, LayerStatus};
pub use limits::{Limit, Limits};
pub use machine::{Jail, JailChoice, Machine, NetPolicyKind, RunAs, SeccompProfile, Settings};
pub use name::Name;
pub use spec::{CubeSpec, Given};
pub use trip_id::TripId;
