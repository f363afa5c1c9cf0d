//! Names of options, as their owners spell them.

/// The options of the bus and of the Tor behind it.
#[derive(Clone, Debug, Default)]
pub struct Names {
    own: Vec<Vec<u8>>,
    of_tor: Vec<Vec<u8>>,
}

impl Names {
    /// The names of the bus's own options.
    #[must_use]
    pub const fn new(own: Vec<Vec<u8>>) -> Self {
        Self {
            own,
            of_tor: Vec::new(),
        }
    }

    /// Takes the names of Tor's options, in Tor's order.
    pub fn handle_names(&mut self, of_tor: Vec<Vec<u8>>) {
        self.of_tor = of_tor;
    }

    /// The option that a name means: the whole one, else the first of Tor's that begins so, which
    /// Tor takes too. As it was given, if nobody has said that there is such an option.
    #[must_use]
    pub fn spell<'a>(&'a self, given: &'a [u8]) -> &'a [u8] {
        self.find(given).unwrap_or(given)
    }

    /// The option that a name means, if it is known.
    #[must_use]
    pub fn find(&self, given: &[u8]) -> Option<&[u8]> {
        let is = |name: &&Vec<u8>| name.eq_ignore_ascii_case(given);
        let begins = |name: &&Vec<u8>| {
            let start = name.get(..given.len());
            !given.is_empty() && start.is_some_and(|start| start.eq_ignore_ascii_case(given))
        };
        let mut all = self.own.iter().chain(&self.of_tor);
        all.find(is)
            .or_else(|| self.of_tor.iter().find(begins))
            .map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_spelled_as_their_owners_do() {
        let octets = |names: &[&str]| names.iter().map(|name| (*name).into()).collect();
        let mut names = Names::new(octets(&["BusHistory"]));
        assert_eq!(names.spell(b"socksp"), b"socksp");
        names.handle_names(octets(&["SocksPolicy", "SocksPort", "SocksPortX"]));
        for (given, expected) in [
            ("bushistory", "BusHistory"),
            ("bushist", "bushist"),
            ("SOCKSPORT", "SocksPort"),
            ("socksp", "SocksPolicy"),
            ("MaxConn", "MaxConn"),
            ("", ""),
        ] {
            assert_eq!(names.spell(given.as_bytes()), expected.as_bytes());
        }
    }
}
