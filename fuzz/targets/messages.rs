//! Every type that a guest can send, as fast as it goes: what is understood is what would be written again.

#![no_main]

use std::fmt::Debug;

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use nexus_protocol::{Message, StreamAnswer, frame};
use serde::{Serialize, de::DeserializeOwned};
use tokio_util::codec::Decoder;

fn read<T: Serialize + DeserializeOwned + PartialEq + Debug>(payload: &[u8]) {
    let Ok(value) = frame::decode::<T>(payload) else { return };
    // What was cut or cleaned may have become longer than a frame, as text that is not ASCII is longer when escaped.
    let Ok(written) = frame::encode(&value) else { return };
    assert_eq!(frame::decode::<T>(&written).expect("what was written can be read"), value);
}

fuzz_target!(|said: &[u8]| {
    read::<Message>(said);
    read::<StreamAnswer>(said);

    let (mut codec, mut buffer) = (frame::codec(), BytesMut::new());
    for piece in said.chunks(1 + said.len() % 13) {
        buffer.extend_from_slice(piece);
        while let Ok(Some(payload)) = codec.decode(&mut buffer) {
            read::<Message>(&payload);
        }
    }
});
