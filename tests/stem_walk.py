#!/usr/bin/env python3
"""Uses a daemon as the users of plain stem would: stem_walk.py SOCKET CONFIG.

The daemon was started with the option file CONFIG, in which BusHistory is 50, and ends with this.
"""

import queue
import sys

import stem
import stem.response
from stem.control import Controller, EventType

PATIENCE = 30  # seconds, before something that should come is missing


def connect(path):
    controller = Controller.from_socket_file(path)
    controller.authenticate()
    return controller


def command(controller, line):
    reply = controller.msg(line)
    stem.response.convert('SINGLELINE', reply)
    assert reply.is_ok(), '%s: %s' % (line, reply)


def refused(error, function, *args):
    try:
        function(*args)
    except error as exc:
        return str(exc)
    raise AssertionError('%s%r was not refused' % (function.__name__, args))


def events_of(controller, *kinds):
    """Subscribes, and returns a function that waits for the next event and gives its lines."""
    arrived = queue.Queue()
    controller.add_event_listener(arrived.put, *kinds)
    return lambda: arrived.get(timeout=PATIENCE).raw_content().strip()


def information(controller):
    names = [line.split(' ')[0] for line in controller.get_info('info/names').splitlines()]
    assert len(names) > 20, names

    for name in names:
        value = controller.get_info(name)
        assert isinstance(value, str), (name, value)

    values = controller.get_info(['version', 'process/pid', 'uptime'])
    assert int(values['process/pid']) == controller.get_pid(), values
    assert controller.get_version() >= stem.version.Version('0.4.0.1')
    assert controller.get_info('no-such-key', None) is None
    refused(stem.InvalidArguments, controller.get_info, 'no-such-key')
    refused(stem.ControllerError, controller.get_info, 'circuit-status')
    assert controller.is_alive() and controller.is_authenticated()


def options(controller, config):
    changed = events_of(controller, EventType.CONF_CHANGED)

    assert controller.get_conf('BusHistory') == '50'
    controller.set_conf('BusHistory', '60')
    assert controller.get_conf('bushistory') == '60'
    assert changed() == '650-CONF_CHANGED\r\n650-BusHistory=60\r\n650 OK', 'BusHistory=60'

    controller.set_options({'BusHistory': '61', 'BusBandwidthInterval': '1 seconds', 'BusMaxQueue': '8 MB'})
    assert controller.get_conf_map(['BusHistory', 'BusMaxQueue'])['BusHistory'] == ['61']
    changed()

    refused(stem.InvalidArguments, controller.set_conf, 'BusNothing', '1')
    refused(stem.ControllerError, controller.set_conf, 'BusHistory', 'many')
    refused(stem.ControllerError, controller.set_conf, 'BusStateDirectory', '/elsewhere')
    assert controller.get_conf('BusHistory') == '61', 'a refused change changes nothing'

    controller.save_conf()
    with open(config) as saved:
        text = saved.read()
    assert text.startswith('# a comment that stays\nBusHistory 61\n'), text

    controller.reset_conf('BusHistory')
    assert controller.get_conf('BusHistory') == '100'
    changed()

    loaded = text.replace('BusHistory 61', 'BusHistory 70')
    controller.load_conf(loaded)
    # stem answers from its cache, which it clears when this event comes.
    changed()
    assert controller.get_conf('BusHistory') == '70'
    refused(stem.ControllerError, controller.load_conf, 'BusHistory many\n')

    signals = events_of(controller, EventType.SIGNAL)
    controller.signal('RELOAD')
    changed()
    assert controller.get_conf('BusHistory') == '61', 'what was saved'
    assert signals() == '650 SIGNAL RELOAD'


def signals(controller):
    told = events_of(controller, EventType.NOTICE)
    controller.signal('DUMP')
    assert 'controllers are connected' in told(), 'NOTICE'
    controller.signal('HEARTBEAT')
    refused(stem.ControllerError, controller.signal, 'NEWNYM')

    traffic = events_of(controller, EventType.BW)
    status, kind, read, written = traffic().split(' ')
    assert (status, kind) == ('650', 'BW') and int(read) >= 0 and int(written) > 0


def messages(path):
    with connect(path) as alice, connect(path) as bob:
        command(alice, 'CONTROLLERNAME alice')
        command(bob, 'CONTROLLERNAME bob')
        assert alice.get_info('list-controllers').splitlines() == ['unset', 'alice', 'bob']

        # Nothing is lost between the name and the subscription.
        command(bob, 'POSTMESSAGE @alice early')
        to_alice = events_of(alice, 'POSTMESSAGE')
        to_bob = events_of(bob, 'POSTMESSAGE')
        assert to_alice() == '650 POSTMESSAGE 1 bob @alice early'

        for number in range(2, 202, 2):
            command(alice, 'POSTMESSAGE @bob ping %d' % number)
            assert to_bob() == '650 POSTMESSAGE %d alice @bob ping %d' % (number, number)
            command(bob, 'POSTMESSAGE @all pong %d' % number)
            pong = '650 POSTMESSAGE %d bob @all pong %d' % (number + 1, number)
            assert to_alice() == pong and to_bob() == pong

        recent = alice.get_info('recent-messages').splitlines()
        assert recent[-1] == pong, recent[-1]
        assert str(alice.msg('POSTMESSAGE @nobody x')).startswith('Invalid destination'), 'no such destination'


def main():
    path, config = sys.argv[1:]

    with connect(path) as controller:
        information(controller)
        options(controller, config)
        signals(controller)
        messages(path)
        command(controller, 'SIGNAL SHUTDOWN')

    print('all of it holds')


if __name__ == '__main__':
    main()
