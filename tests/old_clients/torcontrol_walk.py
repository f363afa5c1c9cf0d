"""Goes through everything that the module TorControl of 2005 can do, and says what it finds wrong.

    torcontrol_walk.py SCENARIO PORT HOME

The module is none of this project: it must be where Python finds it, for Python 2 as it was written or for Python 3 as
somebody has converted it. SCENARIO is the name of a function below, PORT leads to a daemon's v0 socket, and HOME is the
daemon's directory.
"""
from __future__ import print_function

import os
import socket
import struct
import sys

import TorControl as tc

PATIENCE = 30
NEW_MAIL = 0xF001


class TextStruct(object):
    """struct with text for octets, which is what they were to Python in 2005."""

    @staticmethod
    def pack(form, *values):
        return struct.pack(form, *values).decode("latin-1")

    @staticmethod
    def unpack(form, octets):
        return struct.unpack(form, octets.encode("latin-1"))


if sys.version_info[0] > 2:
    tc.struct = TextStruct


class Connection(object):
    """A socket as the module takes it: it reads once for a header and once for a body, and needs all of it each time."""

    def __init__(self, port):
        self.port = port
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)

    def recv(self, length):
        octets = b""
        while len(octets) < length:
            more = self.socket.recv(length - len(octets))
            if not more:
                break
            octets += more
        return octets if str is bytes else octets.decode("latin-1")

    def sendall(self, octets):
        self.socket.sendall(octets if str is bytes else octets.encode("latin-1"))


def same(what, got, wanted):
    if got != wanted:
        sys.exit("%s: expected %.300r and got %.300r" % (what, wanted, got))


def fails(code, function, *arguments):
    """The function must raise the module's own exception for this code."""
    try:
        result = function(*arguments)
    except tc.ErrorReply as error:
        found, meaning, text = error.args[0]
        same("the code from %s%r" % (function.__name__, arguments[1:]), found, code)
        if not text:
            sys.exit("error 0x%04x says nothing" % code)
        print("%s%.60r: %s: %s" % (function.__name__, arguments[1:], meaning, text))
    else:
        sys.exit("%s%r: expected error 0x%04x and got %.300r" % (function.__name__, arguments[1:], code, result))


def message(connection, kind, body, expected=(tc.MSG_TYPE.DONE,)):
    """For types that the module knows by number only."""
    tc.send_message(connection, kind, body)
    return tc.receive_reply(connection, list(expected))[1]


class Events(object):
    """Those that come with a reply, and then those that come by themselves."""

    def __init__(self):
        self.early = []
        tc._event_handler = lambda kind, body: self.early.append(body)

    def until(self, connection, code):
        while True:
            if self.early:
                body = self.early.pop(0)
            else:
                _, kind, body = tc.receive_message(connection)
                same("the type of what comes by itself", kind, tc.MSG_TYPE.EVENT)
            found, arguments = tc.unpack_event(body)
            if found == code:
                print("event 0x%04x: %.60r" % (code, arguments))
                return arguments


def configuration(connection, home):
    same("as it is", tc.get_option(connection, "DisableNetwork"), [("DisableNetwork", "1")])
    same("in small letters", tc.get_option(connection, "disablenetwork\n"), [("DisableNetwork", "1")])
    tc.set_option(connection, "ContactInfo Somebody \"at\" a \\ place")
    same("a text", tc.get_option(connection, "contactinfo"), [("ContactInfo", "Somebody \"at\" a \\ place")])
    tc.set_option(connection, "maxcircuitdirtiness 700\nNewCircuitPeriod 40\n")
    several = tc.get_option(connection, "MaxCircuitDirtiness\nNewCircuitPeriod\n")
    same("several", several, [("MaxCircuitDirtiness", "700"), ("NewCircuitPeriod", "40")])
    tc.set_option(connection, "MaxCircuitDirtiness")
    same("the default", tc.get_option(connection, "MaxCircuitDirtiness"), [("MaxCircuitDirtiness", "600")])
    same("what is not set", [value for _, value in tc.get_option(connection, "Nickname") if value], [])
    hidden = os.path.join(home, "hidden")
    tc.set_option(connection, "HiddenServiceDir %s\nHiddenServicePort 80\nHiddenServicePort 81 127.0.0.1:82\n" % hidden)
    same("a group", tc.get_option(connection, "HiddenServiceOptions"), [
        ("HiddenServiceDir", hidden), ("HiddenServicePort", "80"), ("HiddenServicePort", "81 127.0.0.1:82")])
    tc.set_option(connection, "HiddenServiceDir")
    fails(0x0004, tc.get_option, connection, "NoSuchOption")
    fails(0x0004, tc.get_option, connection, "ContactInfo\nNoSuchOption")
    fails(0x0004, tc.set_option, connection, "1")
    fails(0x0005, tc.set_option, connection, "MaxCircuitDirtiness soon")
    fails(0x0004, tc.set_option, connection, "NewCircuitPeriod 50\nNoSuchOption 1\n")
    same("all or nothing", tc.get_option(connection, "NewCircuitPeriod"), [("NewCircuitPeriod", "40")])


def what_does_not_fit_one_message(connection):
    # Of this length only: the header of the module's second part is right because both its fields are 17.
    value = "x" * (65529 + 17 - len("ContactInfo "))
    tc.set_option(connection, "ContactInfo " + value)
    same("a long value", tc.get_option(connection, "ContactInfo"), [("ContactInfo", value)])
    tc.set_option(connection, "ContactInfo")
    # The module cannot take more than one part behind the header of the first.
    keys = ["config/names", "config/defaults", "info/names"]
    values = tc.get_info(connection, "\n".join(keys * 2))
    same("the keys", sorted(values), sorted(keys))
    for key in keys:
        same("the beginning and end of " + key, values[key], tc.get_info(connection, key)[key])
        print("%s: %d octets" % (key, len(values[key])))


def information(connection):
    version = tc.get_info(connection, "version")
    same("the key", list(version), ["version"])
    print("version: %r" % version["version"])
    # Tor has other descriptors today, unless it is told to fetch these.
    nobody = "desc/id/" + 40 * "0"
    fails(0x0004, tc.get_info, connection, nobody)
    tc.set_option(connection, "UseMicrodescriptors 0")
    same("nobody's descriptor", tc.get_info(connection, nobody), {nobody: ""})
    same("nobody's descriptor", tc.get_info(connection, "desc/name/moria1"), {"desc/name/moria1": ""})
    fails(0x0000, tc.get_info, connection, "network-status")
    fails(0x0004, tc.get_info, connection, "no-such-key")
    fails(0x0004, tc.get_info, connection, "version\nno-such-key")


def addresses(connection):
    lists = ["addr-mappings/" + which for which in ("all", "config", "cache", "control")]
    same("no mappings", tc.get_info(connection, "\n".join(lists)), dict.fromkeys(lists, ""))
    same("one", tc.map_address(connection, [("1.2.3.4", "foobaz.example")]), [("1.2.3.4", "foobaz.example")])
    mapped = tc.get_info(connection, "addr-mappings/control\naddr-mappings/cache")
    same("the list", mapped["addr-mappings/control"].split(), ["1.2.3.4", "foobaz.example"])
    same("another list", mapped["addr-mappings/cache"], "")
    several = tc.map_address(connection, [
        ("0.0.0.0", "foobar.example"), ("frebnitz.example", "5.6.7.8"), (".", "abacinator.example")])
    same("what they lead to", [to for _, to in several], ["foobar.example", "5.6.7.8", "abacinator.example"])
    same("the beginning", several[0][0][:4], "127.")
    same("what was given", several[1][0], "frebnitz.example")
    same("the end", several[2][0][-8:], ".virtual")
    fails(0x0003, tc.map_address, connection, [("1.2.3.4", "not plausible")])


def circuits_and_streams(connection):
    fails(0x000C, tc.extend_circuit, connection, 0, ["moria1"])
    fails(0x000C, tc.extend_circuit, connection, 0, ["moria1", "$" + 40 * "A"])
    fails(0x000B, tc.extend_circuit, connection, 4321, ["moria1"])
    fails(0x000A, tc.attach_stream, connection, 4321, 0)
    fails(0x000A, tc.attach_stream, connection, 4321, 1234)
    fails(0x000A, tc.redirect_stream, connection, 4321, "www.example")
    fails(0x000A, message, connection, tc.MSG_TYPE.CLOSESTREAM, "\0\0\x10\xe1\1\0")
    fails(0x000B, message, connection, tc.MSG_TYPE.CLOSECIRCUIT, "\0\0\x10\xe1\0")
    fails(0x0003, message, connection, tc.MSG_TYPE.POSTDESCRIPTOR, "router nobody\n")


def events(connection):
    heard = Events()
    tc.set_events(connection, [tc.EVENT_TYPE.BANDWIDTH])
    same("so many numbers", len(heard.until(connection, tc.EVENT_TYPE.BANDWIDTH)), 2)
    kinds = ["CIRCSTATUS", "STREAMSTATUS", "ORCONNSTATUS", "WARN", "NEWDESC"]
    tc.set_events(connection, [getattr(tc.EVENT_TYPE, kind) for kind in kinds])
    tc.send_signal(connection, tc.SIGNAL.HUP)
    while "reload" not in heard.until(connection, tc.EVENT_TYPE.WARN)[0]:
        pass
    fails(0x0006, tc.set_events, connection, [tc.EVENT_TYPE.WARN, 0x0C0C])
    tc.set_events(connection, [])
    tc.send_signal(connection, tc.SIGNAL.USR1)
    tc.send_signal(connection, tc.SIGNAL.USR2)
    fails(0x0006, tc.send_signal, connection, 99)


def bus(connection):
    """The types of the bus, which the module sends and hands out although it has never heard of them."""
    heard = Events()
    message(connection, 0xF000, "since2005\0")
    tc.set_events(connection, [NEW_MAIL])
    same("the MessageID", message(connection, 0xF001, "since2005\0hello\0")[:7], 7 * "\0")
    body, = heard.until(connection, NEW_MAIL)
    same("the message", body[8:], "since2005\0since2005\0hello\0")
    tc.set_events(connection, [])
    same("who is there", message(connection, 0xF004, "", [0xF006]), "since2005\0")
    fails(0xF002, message, connection, 0xF001, "nobody\0hello\0")


def with_tor(connection, home):
    tc.authenticate(connection)
    events(connection)
    configuration(connection, home)
    what_does_not_fit_one_message(connection)
    information(connection)
    addresses(connection)
    circuits_and_streams(connection)
    bus(connection)
    tc.save_conf(connection)
    fails(0x0002, message, connection, 0x0D0A, "")
    fails(0x0002, message, connection, tc.MSG_TYPE.CONFVALUE, "")
    tc.send_signal(connection, tc.SIGNAL.TERM)
    same("what follows the end of Tor", connection.recv(1), "")


def alone(connection, home):
    tc.authenticate(connection)
    tc.set_option(connection, "BusHistory 50")
    same("the bus's own", tc.get_option(connection, "bushistory"), [("BusHistory", "50")])
    tc.set_option(connection, "BusHistory")
    same("its default", tc.get_option(connection, "BusHistory\n"), [("BusHistory", "100")])
    fails(0x0005, tc.set_option, connection, "BusHistory many")
    fails(0x0004, tc.get_option, connection, "BusNoSuchOption")
    same("the key", list(tc.get_info(connection, "version")), ["version"])
    heard = Events()
    tc.set_events(connection, [tc.EVENT_TYPE.BANDWIDTH])
    same("so many numbers", len(heard.until(connection, tc.EVENT_TYPE.BANDWIDTH)), 2)
    tc.set_events(connection, [])
    bus(connection)
    # The module swaps the fields of the second part's header. Nothing can be said on this connection after it.
    other = Connection(connection.port)
    fails(0x0003, tc.set_option, other, "ContactInfo ".ljust(65536, "x"))


def with_cookie(connection, home):
    fails(0x0007, tc.get_info, connection, "version")
    fails(0x0007, tc.set_events, connection, [tc.EVENT_TYPE.BANDWIDTH])
    # It can send no cookie.
    fails(0x0008, tc.authenticate, connection)
    same("what follows", connection.recv(1), "")


if __name__ == "__main__":
    globals()[sys.argv[1]](Connection(int(sys.argv[2])), sys.argv[3])
    print("all as expected")
