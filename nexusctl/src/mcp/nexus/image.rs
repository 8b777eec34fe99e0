//! `image_list`.

use nexus_mcp::{Reply, schemars::JsonSchema};
use serde::{Deserialize, Serialize};

use crate::{bus::Bus, failure::Failure};

/// Nothing is asked for.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(crate = "nexus_mcp::schemars")]
#[serde(deny_unknown_fields)]
pub(super) struct ImageList {}

/// What VMs can be made from.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(crate = "nexus_mcp::schemars")]
pub(super) struct Images {
    /// All of them, by name.
    images: Vec<Image>,
}

/// A master image.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(crate = "nexus_mcp::schemars")]
struct Image {
    /// Its name.
    name: String,
    /// The system in it.
    system: String,
    /// The size of a disk that is made from it, in bytes.
    size_bytes: u64,
}

pub(super) async fn list(ImageList {}: ImageList, bus: &Bus) -> Result<Reply, Failure> {
    let objects = bus.objects("list images").await?;
    let image = |image: &&nexus_dbus::client::ImageProperties| Image {
        name: image.name.clone(),
        system: format!("{} {}", image.os_name, image.os_version).trim().to_owned(),
        size_bytes: image.size_bytes,
    };
    Ok(Reply::json(&Images { images: objects.images().iter().map(image).collect() }))
}
