#!/usr/bin/env python3
"""Talk to other controllers through onionbus, on plain stem; onionbus_stem.py lies beside it.

Posts TEXT to @DEST when both are given, then prints the messages that arrive, until interrupted or until --count of
them have come.
"""

import argparse
import queue
import sys

import stem
from stem.control import Controller, State

# No package knows of compiled files, so none would remove them.
sys.dont_write_bytecode = True

from onionbus_stem import command, default_socket, message_of


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--socket', metavar='PATH',
                        help='control socket of onionbus (default: where its commands find it, see onionbus(1))')
    parser.add_argument('--as', metavar='NAME', dest='name', default='demo',
                        help='register under this ControllerID (default: %(default)s)')
    parser.add_argument('--count', metavar='N', type=int, help='end after N messages; 0 only posts')
    parser.add_argument('dest', metavar='@DEST', nargs='?', help='@all or @ and the name of a controller')
    parser.add_argument('text', metavar='TEXT', nargs='*', help='what to post')
    args = parser.parse_args()

    if args.dest and not (args.dest.startswith('@') and args.text):
        parser.error('a message is posted as @DEST TEXT')

    return args


def main():
    args = arguments()
    arrived = queue.Queue()

    with Controller.from_socket_file(args.socket or default_socket()) as controller:
        controller.authenticate()
        command(controller, 'CONTROLLERNAME %s' % args.name)

        # Wakes the loop below when the daemon goes away.
        controller.add_status_listener(lambda _c, state, _t: arrived.put(None) if state == State.CLOSED else None)
        # Events come on a thread of stem's: the queue brings them to this one.
        controller.add_event_listener(arrived.put, 'POSTMESSAGE')

        if args.dest:
            command(controller, 'POSTMESSAGE %s %s' % (args.dest, ' '.join(args.text)))

        left = args.count

        while left is None or left > 0:
            event = arrived.get()

            if event is None:
                raise stem.SocketClosed('the daemon has closed the connection')

            print('%d %s %s %s' % message_of(event), flush=True)
            left = None if left is None else left - 1


if __name__ == '__main__':
    try:
        main()
    except stem.ControllerError as exc:
        sys.exit('example-controller: %s' % exc)
    except KeyboardInterrupt:
        pass
