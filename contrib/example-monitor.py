#!/usr/bin/env python3
"""Watch a Tor and everybody who controls it, through onionbus and on plain stem; onionbus_stem.py lies beside it.

Prints a line for whoever comes, takes a name or goes, for each circuit of Tor's that is built or fails, for a Tor that
comes back or is gone, and for each message. Who posts `status` to its name is sent the counts of all that. It runs
until interrupted, or until --count lines have been printed.
"""

import argparse
import collections
import queue
import sys

import stem
from stem import CircStatus
from stem.control import Controller, State

# No package knows of compiled files, so none would remove them.
sys.dont_write_bytecode = True

from onionbus_stem import command, default_socket, message_of

# The bus's own, and one of Tor's. Without a Tor behind the bus there are no circuits.
EVENTS = ('CONTROLLER', 'TOR', 'POSTMESSAGE', 'CIRC')


def printable(text):
    """The text without a character that could command a terminal: others chose it."""
    return ''.join(char if char.isprintable() else char.encode('unicode_escape').decode() for char in text)


class Monitor:
    """Counts events, and has a line for each that is worth one."""

    def __init__(self, name):
        self.name = name
        self.counts = collections.Counter()

    def line(self, event):
        """The line for an event, or None."""
        if event.type == 'CONTROLLER':
            # CONTROLLER What SessionID ControllerID [OLD=ControllerID] UID=uid PID=pid
            what, session, name = event.positional_args[:3]
            self.counts[what.lower()] += 1
            return 'controller %s %s: %s, pid %s' % (session, name, what.lower(), event.keyword_args.get('PID'))

        if event.type == 'TOR':
            return 'Tor is %s' % event.positional_args[0].lower()

        if event.type == 'CIRC':
            if event.status not in (CircStatus.BUILT, CircStatus.FAILED):
                return None

            self.counts['circuits %s' % event.status.lower()] += 1
            return 'circuit %s: %s' % (event.id, event.status.lower())

        _id, source, dest, text = message_of(event)
        self.counts['messages'] += 1
        return '%s to %s: %s' % (source, dest, text)

    def answer(self, event):
        """The command that answers a message, or None."""
        if event.type != 'POSTMESSAGE':
            return None

        _id, source, dest, text = message_of(event)

        # Without a name nobody can be answered.
        if (dest, text) != ('@' + self.name, 'status') or source == 'unset':
            return None

        counts = ', '.join('%d %s' % (count, what) for what, count in sorted(self.counts.items()))
        return 'POSTMESSAGE @%s %s' % (source, counts)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--socket', metavar='PATH',
                        help='control socket of onionbus (default: where its commands find it, see onionbus(1))')
    parser.add_argument('--as', metavar='NAME', dest='name', default='monitor',
                        help='register under this ControllerID (default: %(default)s)')
    parser.add_argument('--count', metavar='N', type=int, help='end after N lines')
    args = parser.parse_args()
    monitor = Monitor(args.name)
    arrived = queue.Queue()

    with Controller.from_socket_file(args.socket or default_socket()) as controller:
        controller.authenticate()
        # Wakes the loop below when the daemon goes away.
        controller.add_status_listener(lambda _c, state, _t: arrived.put(None) if state == State.CLOSED else None)
        # Events come on a thread of stem's: the queue brings them to this one.
        controller.add_event_listener(arrived.put, *EVENTS)
        # Behind the subscription, so that who knows the name is heard.
        command(controller, 'CONTROLLERNAME %s' % args.name)
        left = args.count

        while left is None or left > 0:
            event = arrived.get()

            if event is None:
                raise stem.SocketClosed('the daemon has closed the connection')

            line = monitor.line(event)

            if line is None:
                continue

            print(printable(line), flush=True)
            left = None if left is None else left - 1
            answer = monitor.answer(event)

            if answer:
                try:
                    command(controller, answer)
                except stem.OperationFailed as exc:
                    # The one who asked may be gone.
                    print('not answered: %s' % printable(str(exc)), file=sys.stderr, flush=True)


if __name__ == '__main__':
    try:
        main()
    except stem.ControllerError as exc:
        sys.exit('example-monitor: %s' % exc)
    except KeyboardInterrupt:
        pass
