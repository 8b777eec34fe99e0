//! Client side of the guest agent.
