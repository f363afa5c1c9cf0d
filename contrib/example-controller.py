#!/usr/bin/env python3
"""Talk to other controllers through onionbus, with nothing but plain stem.

Posts TEXT to @DEST when both are given, then prints the messages that arrive, until interrupted or until --count of
them have come.
"""

import argparse
import os
import queue
import sys

import stem
import stem.response
from stem.control import Controller, State


def command(controller, line):
    """Sends a command that is answered by a single line; raises stem.OperationFailed unless it says 250 OK."""
    # stem writes str as Latin-1: dressed up as that, the octets of the arguments pass unchanged.
    reply = controller.msg(os.fsencode(line).decode('latin-1'))
    stem.response.convert('SINGLELINE', reply)

    if not reply.is_ok(strict=True):
        raise stem.OperationFailed(reply.code, '%s: %s %s' % (line.split(' ')[0], reply.code, reply.message))


def message_of(event):
    """Takes an event apart: `POSTMESSAGE MessageID SourceControllerID @DestControllerID LineItem`.

    stem knows no POSTMESSAGE and hands it over as a plain Event. Its positional_args lose blanks and whatever looks
    like `key=value`, so the line is split here instead, where a message stays as it was posted. (Only octets that are
    no UTF-8 are replaced.)
    """
    line = event.raw_content(get_bytes=True).rstrip(b'\r\n').decode('utf-8', 'replace')
    _status, _type, message_id, source, dest, text = line.split(' ', 5)
    return int(message_id), source, dest, text


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--socket', metavar='PATH', default='/run/onionbus/control',
                        help='control socket of onionbus (default: %(default)s)')
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

    with Controller.from_socket_file(args.socket) as controller:
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
