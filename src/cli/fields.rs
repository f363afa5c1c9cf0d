//! The words `NAME=value` that the daemon's lists are made of, and some events.

use onionbus::wire::text::read_c_string;

/// The words of a line or of several that have a name.
#[derive(Debug, PartialEq, Eq)]
pub struct Fields(Vec<Field>);

/// One word with a name.
#[derive(Debug, PartialEq, Eq)]
pub struct Field {
    /// The name, as the daemon spells it.
    pub name: String,
    /// The value; of one in quotes the inside, unescaped.
    pub value: Vec<u8>,
    /// Whether it stood in quotes.
    pub is_quoted: bool,
}

impl Fields {
    /// Reads the words of a text that have a name.
    pub fn of(text: &[u8]) -> Self {
        Self::split(text).0
    }

    /// Reads the words of a text: those with a name, and the others.
    pub fn split(text: &[u8]) -> (Self, Vec<Vec<u8>>) {
        let (mut fields, mut others) = (Vec::new(), Vec::new());
        let mut rest = text.trim_ascii_start();
        while !rest.is_empty() {
            let (word, behind) = rest.split_at(end_of_word(rest));
            match named(word) {
                Some((name, value)) => {
                    let unquoted = read_c_string(value);
                    fields.push(Field {
                        name,
                        is_quoted: unquoted.is_some(),
                        value: unquoted.unwrap_or_else(|| value.to_vec()),
                    });
                }
                None => others.push(read_c_string(word).unwrap_or_else(|| word.to_vec())),
            }
            rest = behind.trim_ascii_start();
        }
        (Self(fields), others)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Field> {
        self.0.iter()
    }

    /// The values of all words with this name.
    pub fn all(&self, name: &str) -> impl Iterator<Item = String> {
        let named = self.iter().filter(move |field| field.name == name);
        named.map(|field| String::from_utf8_lossy(&field.value).into_owned())
    }

    /// The value of the first word with this name, or nothing.
    pub fn text(&self, name: &str) -> String {
        self.all(name).next().unwrap_or_default()
    }

    /// The same as a number.
    pub fn number(&self, name: &str) -> u64 {
        self.text(name).parse().unwrap_or_default()
    }
}

/// The name and the value of a word that has a name. `$4A73=nick`, a relay, has none.
fn named(word: &[u8]) -> Option<(String, &[u8])> {
    let (name, value) = word.split_at(word.iter().position(|&octet| octet == b'=')?);
    let is_name = |octet: &u8| octet.is_ascii_alphanumeric() || *octet == b'_';
    let name = String::from_utf8(name.to_vec()).ok()?;
    let is_named = !name.is_empty() && name.as_bytes().iter().all(is_name);
    is_named.then_some((name, value.get(1..)?))
}

/// The end of the word that a text begins with: the first blank that is not in quotes.
fn end_of_word(text: &[u8]) -> usize {
    let (mut in_quotes, mut is_escaped) = (false, false);
    let ends = |octet: &u8| {
        match octet {
            _ if std::mem::take(&mut is_escaped) => {}
            b'\\' if in_quotes => is_escaped = true,
            b'"' => in_quotes = !in_quotes,
            blank if blank.is_ascii_whitespace() => return !in_quotes,
            _ => {}
        }
        false
    };
    text.iter().position(ends).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_cut_at_blanks_and_not_in_quotes() {
        let fields = Fields::of(b"ID=7 A=\"b \\\"C=x\\\\\" D= x E=\"\\xff\"\nID=8\n F=\"open");
        let read: Vec<_> = fields
            .iter()
            .map(|field| (&field.name[..], &field.value[..], field.is_quoted))
            .collect();
        assert_eq!(
            read,
            [
                ("ID", &b"7"[..], false),
                ("A", b"b \"C=x\\", true),
                ("D", b"", false),
                ("E", b"\xff", true),
                ("ID", b"8", false),
                ("F", b"\"open", false),
            ]
        );
        let (fields, others) = Fields::split(b"12 $4A=x A=b \"c d\" =");
        assert_eq!(fields.text("A"), "b");
        assert_eq!(others, [&b"12"[..], b"$4A=x", b"c d", b"="]);
    }

    #[test]
    fn a_value_is_found_by_its_name() {
        let fields = Fields::of(b"ID=7 ID=8");
        assert_eq!(fields.all("ID").collect::<Vec<_>>(), ["7", "8"]);
        assert_eq!((fields.number("ID"), fields.number("G")), (7, 0));
    }
}
