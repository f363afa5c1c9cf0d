"""Prints what stem understands of a Tor's events, and the event itself behind it.

usage: stem_watch.py SOCKET EVENT...

A line for each, the two parts separated by a tabulator, and first of all a line that it listens. It ends with its
standard input.
"""

import sys

from stem.control import Controller


def hop(fingerprint, nickname):
    return f'${fingerprint}~{nickname}' if nickname else f'${fingerprint}'


def understood(event):
    if event.type == 'CIRC':
        words = [event.id, event.status, ','.join(hop(*each) for each in event.path)]
    elif event.type == 'STREAM':
        words = [event.id, event.status, event.target]
    elif event.type == 'ORCONN':
        words = [event.endpoint, event.status]
    elif event.type == 'BW':
        words = [str(event.read), str(event.written)]
    else:
        words = [event.message]
    return ' '.join([event.type, *words])


def show(event):
    print(understood(event), event.raw_content().removesuffix('\r\n'), sep='\t', flush=True)


def main():
    path, *events = sys.argv[1:]
    controller = Controller.from_socket_file(path)
    controller.authenticate()
    controller.add_event_listener(show, *events)
    print('listening', flush=True)
    sys.stdin.read()
    controller.close()


main()
