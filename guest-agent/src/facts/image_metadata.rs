//! `/etc/nexus/image.yaml`: what the image says about itself, a map from words to words.

use std::{collections::BTreeMap, fs::File, io::Read, path::Path};

use nexus_protocol::{Text, Welcome};

const MAX_BYTES: u64 = 64 * 1024;

/// The file's content; nothing when there is no file.
pub(super) fn read(path: &Path) -> Result<BTreeMap<Text, Text>, String> {
    let mut yaml = String::new();
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    };
    match file.take(MAX_BYTES + 1).read_to_string(&mut yaml) {
        Ok(count) if count as u64 > MAX_BYTES => Err(format!("{} is over {MAX_BYTES} bytes", path.display())),
        Ok(_) => parse(&yaml).map_err(|problem| format!("{}: {problem}", path.display())),
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
    }
}

fn parse(yaml: &str) -> Result<BTreeMap<Text, Text>, String> {
    if yaml.trim().is_empty() {
        return Ok(BTreeMap::new());
    }
    let entries: BTreeMap<String, String> = serde_saphyr::from_str(yaml).map_err(|error| error.to_string())?;
    if entries.len() > Welcome::MAX_METADATA {
        return Err(format!("{} entries are over the limit of {}", entries.len(), Welcome::MAX_METADATA));
    }
    let bytes: usize = entries.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > Welcome::MAX_METADATA_BYTES {
        return Err(format!("{bytes} bytes of entries are over the limit of {}", Welcome::MAX_METADATA_BYTES));
    }
    Ok(entries.into_iter().map(|(name, value)| (Text::from(name), Text::from(value))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_words_and_refuses_the_rest() {
        let map = parse("name: demo\nversion: \"1.10\"\n").unwrap();
        assert_eq!(map.get(&Text::from("version")).map(Text::as_str), Some("1.10"));
        assert_eq!(parse("\n"), Ok(BTreeMap::new()));
        assert!(parse("- a\n- b\n").is_err());
        assert!(parse("a: {b: c}\n").is_err());
        assert!(parse("a: [\n").is_err());
    }

    #[test]
    fn little_that_stands_for_much_is_refused() {
        let mut yaml = format!("a: &a {}\n", "x".repeat(4000));
        for number in 0..30 {
            yaml.push_str(&format!("b{number}: *a\n"));
        }
        assert!(yaml.len() < 5000 && parse(&yaml).unwrap_err().contains("bytes of entries"));
    }

    #[test]
    fn survives_a_bomb() {
        let mut yaml = String::from("a0: &a0 x\n");
        for level in 1..40 {
            yaml.push_str(&format!("a{level}: &a{level} [*a{0}, *a{0}, *a{0}]\n", level - 1));
        }
        assert!(parse(&yaml).is_err());
    }
}
