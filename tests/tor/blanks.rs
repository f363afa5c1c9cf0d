//! White space in the commands of the login, where Tor does not take every kind alike.

/// The octets that C takes for white space, and two of them together.
const WHITE_SPACE: &[&str] = &[
    " ", "\t", "\r", "\x0B", "\x0C", " \t", "\t ", " \x0C", "\x0C ", "\r ", " \r", "\x0B ",
    " \x0B", "\x0B\x0C",
];

/// The lines of the login with white space of every kind in every place, and a login behind each.
pub fn questions(cookie: bool) -> Vec<Vec<u8>> {
    let mut questions = Vec::new();
    for blank in WHITE_SPACE {
        // Without a cookie the bus lets a command in that Tor does not, and so an empty one.
        let lines = BLANKS
            .iter()
            .filter(|line| cookie || !line.starts_with('_'));
        for line in lines {
            let line = line.replace('_', blank);
            questions.push(format!("{line}\r\nAUTHENTICATE\r\n{}", crate::FENCE).into_bytes());
        }
    }
    questions
}

/// Lines of the login, with `_` where a blank may stand.
const BLANKS: &[&str] = &[
    "_",
    "_AUTHENTICATE",
    "AUTHENTICATE_",
    "AUTHENTICATE_00",
    "AUTHENTICATE _00",
    "AUTHENTICATE\t_00",
    "AUTHENTICATE 00_",
    "AUTHENTICATE 00_\t",
    "AUTHENTICATE 0_0",
    "AUTHENTICATE 00_00",
    "AUTHENTICATE 00 _ 00",
    "AUTHENTICATE_\"a\"",
    "AUTHENTICATE _\"a\"",
    "AUTHENTICATE \"a\"_",
    "AUTHENTICATE \"_\"",
    "AUTHENTICATE \"a\"_b",
    "AUTHENTICATE \"a\"_00",
    "AUTHENTICATE \"a\"_\"b\"",
    "AUTHENTICATE 00_\"b\"",
    "AUTHENTICATE _a=b",
    "AUTHENTICATE a_=b",
    "AUTHENTICATE a=_b",
    "AUTHENTICATE a=b_",
    "AUTHENTICATE _=00",
    "AUTHENTICATE 00_=",
    "AUTHENTICATE _ ",
    "AUTHENTICATE {cookie}_",
    "AUTHENTICATE _{cookie}",
    "AUTHENTICATE_{cookie}",
    "_AUTHCHALLENGE SAFECOOKIE 00",
    "AUTHCHALLENGE_",
    "AUTHCHALLENGE _ ",
    "authchallenge_",
    "AuthChallenge _",
    "AUTHCHALLENGE_SAFECOOKIE 00",
    "AUTHCHALLENGE _SAFECOOKIE 00",
    "AUTHCHALLENGE SAFECOOKIE_00",
    "AUTHCHALLENGE SAFECOOKIE_ 00",
    "AUTHCHALLENGE SAFECOOKIE _00",
    "AUTHCHALLENGE SAFECOOKIE 00_",
    "AUTHCHALLENGE SAFECOOKIE 00_ ",
    "AUTHCHALLENGE SAFECOOKIE_",
    "AUTHCHALLENGE SAFECOOKIE _",
    "AUTHCHALLENGE SAFECOOKIE 0_0",
    "AUTHCHALLENGE SAFECOOKIE 00_00",
    "AUTHCHALLENGE SAFECOOKIE 00 _00",
    "AUTHCHALLENGE SAFE_COOKIE 00",
    "AUTHCHALLENGE COOKIE_00",
    "AUTHCHALLENGE SAFECOOKIE_\"a\"",
    "AUTHCHALLENGE SAFECOOKIE _\"a\"",
    "AUTHCHALLENGE SAFECOOKIE \"a\"_",
    "AUTHCHALLENGE SAFECOOKIE \"_\"",
    "AUTHCHALLENGE SAFECOOKIE \"a\"_b",
    "AUTHCHALLENGE SAFECOOKIE \"a_",
    "AUTHCHALLENGE COOKIE \"a_",
    "AUTHCHALLENGE SAFECOOKIE _a=b",
    "AUTHCHALLENGE SAFECOOKIE a_=b",
    "AUTHCHALLENGE SAFECOOKIE a=_b",
    "AUTHCHALLENGE SAFECOOKIE a=b_",
    "AUTHCHALLENGE SAFECOOKIE _=b",
    "AUTHCHALLENGE SAFECOOKIE_=00",
    "_PROTOCOLINFO",
    "PROTOCOLINFO_",
    "PROTOCOLINFO _ ",
    "PROTOCOLINFO_1",
    "PROTOCOLINFO _1",
    "PROTOCOLINFO 1_",
    "PROTOCOLINFO 1_2",
    "PROTOCOLINFO 1_x",
    "PROTOCOLINFO 1_ 2",
    "PROTOCOLINFO 1 _2",
    "PROTOCOLINFO x_",
    "PROTOCOLINFO _x",
    "PROTOCOLINFO x_y",
    "PROTOCOLINFO +_1",
    "PROTOCOLINFO\t_1",
    "_QUIT",
    "QUIT_",
    "QUIT_x",
    "QUIT _x",
];
