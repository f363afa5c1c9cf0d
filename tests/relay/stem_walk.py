"""Walks through stem's Controller and prints what each method gives.

usage: stem_walk.py SOCKET

What cannot be the same twice (keys, times, processes) is not printed, so that two walks can be compared.
"""

import queue
import sys
import time

import stem
from stem.control import Controller, EventType, Listener, State

# The letter is a private key; what a key's clamping asks for holds for it.
KEY = 'aGho' * 21 + 'aA=='
OTHER_KEY = 'cHBw' * 21 + 'cA=='
ADDRESS = 'duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad'
PATIENCE = 30


def show(name, call, *arguments, **keywords):
    """Prints what a call gives, or how it fails."""
    try:
        value = call(*arguments, **keywords)
    except Exception as error:  # whatever it is, it has to be the same
        value = f'{type(error).__name__}: {error}'
    if isinstance(value, dict):
        value = sorted(value.items())
    print(f'{name}: {value!r}')
    return value


def connect(path):
    controller = Controller.from_socket_file(path)
    controller.authenticate()
    return controller


def basics(controller):
    info = controller.get_protocolinfo()
    print('protocolinfo:', info.protocol_version, info.tor_version, info.auth_methods, info.cookie_path)
    show('version', lambda: str(controller.get_version()))
    show('alive', controller.is_alive)
    show('authenticated', controller.is_authenticated)
    show('user', controller.get_user)
    show('pid is a number', lambda: controller.get_pid() > 0)
    show('uptime is a time', lambda: controller.get_start_time() <= time.time())
    show('feature', controller.is_feature_enabled, 'EXTENDED_EVENTS')
    show('enable feature', controller.enable_feature, 'VERBOSE_NAMES')
    show('enable unknown feature', controller.enable_feature, 'NOTHING')
    for command in ('GETINFO nothing', 'FOO', 'GETINFO', 'SETEVENTS', 'AUTHENTICATE', 'GETCONF Log'):
        show(f'msg {command}', lambda: str(controller.msg(command)))


def info(controller):
    show('info', controller.get_info, 'version')
    show('several', controller.get_info, ['accounting/enabled', 'config-file', 'net/listeners/socks'])
    show('unknown', controller.get_info, 'nothing')
    show('unknown of several', controller.get_info, ['version', 'nothing', 'more'])
    show('unknown with default', controller.get_info, 'nothing', 'a default')
    show('octets', controller.get_info, 'config-text', get_bytes=True)
    for event in EventType:
        if event not in controller.get_info('events/names').split():
            print('event that Tor does not know:', event)
    show('no accounting', controller.get_accounting_stats)
    show('control', controller.get_listeners, Listener.CONTROL)
    show('socks', controller.get_socks_listeners)
    show('ports', controller.get_ports, Listener.SOCKS)
    show('exit policy', lambda: str(controller.get_exit_policy()))
    show('rate', controller.get_effective_rate)
    show('newnym', controller.is_newnym_available)
    show('network statuses', lambda: list(controller.get_network_statuses()))
    show('network status', controller.get_network_status, 'moria1')
    show('server descriptors', lambda: list(controller.get_server_descriptors()))
    show('microdescriptors', lambda: list(controller.get_microdescriptors()))
    show('microdescriptor', controller.get_microdescriptor, 'moria1')
    show('onion descriptor', controller.get_hidden_service_descriptor, ADDRESS, await_result=False)


def what_became_of(option, changes):
    """Waits for the event that an option has another value: earlier ones may be under way."""
    while True:
        event = changes.get(timeout=PATIENCE)
        if option in event.changed or option in event.unset:
            return event.changed.get(option)


def conf(controller, path):
    show('conf', controller.get_conf, 'ContactInfo')
    show('conf of several', controller.get_conf, 'Log', multiple=True)
    show('conf map', controller.get_conf_map, ['ContactInfo', 'MaxCircuitDirtiness', 'HiddenServiceOptions'])
    show('unknown conf', controller.get_conf, 'Nothing')
    show('unknown conf map', controller.get_conf_map, ['ContactInfo', 'Nothing'])
    show('set', controller.set_conf, 'ContactInfo', 'some "body" \\ else')
    show('is now', controller.get_conf, 'ContactInfo')
    show('is set', controller.is_set, 'ContactInfo')
    show('set unknown', controller.set_conf, 'Nothing', '1')
    show('set bad', controller.set_conf, 'MaxCircuitDirtiness', 'ten')
    show('set frozen', controller.set_conf, 'DataDirectory', '/nowhere')
    show('set several', controller.set_options, [('ContactInfo', 'x'), ('MaxCircuitDirtiness', '77')])
    show('set many values', controller.set_conf, 'Log', ['notice stdout', 'warn stdout'])
    show('are now', controller.get_conf, 'Log', multiple=True)
    show('reset', controller.reset_conf, 'ContactInfo', 'MaxCircuitDirtiness')
    show('is now', controller.get_conf, 'MaxCircuitDirtiness')
    show('load bad', controller.load_conf, 'Nothing 1')
    # stem has a cache, and learns from CONF_CHANGED what it has to forget.
    changed = queue.Queue()
    controller.add_event_listener(changed.put, EventType.CONF_CHANGED)
    torrc = controller.get_info('config-text')
    show('load', controller.load_conf, torrc + '\nNewCircuitPeriod 99\n')
    print('changed:', what_became_of('NewCircuitPeriod', changed))
    show('is now', controller.get_conf, 'NewCircuitPeriod')
    show('save', controller.save_conf)

    # A second one changes what the first has in its cache.
    with connect(path) as other:
        other.set_conf('ContactInfo', 'by another')
        print('changed by another:', what_became_of('ContactInfo', changed))
        show('is now', controller.get_conf, 'ContactInfo')
        other.reset_conf('ContactInfo')
        print('reset by another:', what_became_of('ContactInfo', changed))
        show('is now', controller.get_conf, 'ContactInfo')
    controller.remove_event_listener(changed.put)


def onions(controller, path):
    show('none', controller.list_ephemeral_hidden_services)
    made = controller.create_ephemeral_hidden_service({80: 8080}, key_type='ED25519-V3', key_content=KEY)
    print('made:', made.service_id, made.private_key, made.private_key_type)
    show('collides', controller.create_ephemeral_hidden_service, 80, key_type='ED25519-V3', key_content=KEY)
    new = controller.create_ephemeral_hidden_service(80, await_publication=False)
    print('new:', len(new.service_id), new.private_key_type, len(new.private_key))
    discarded = controller.create_ephemeral_hidden_service([80, 81], discard_key=True)
    print('without key:', discarded.private_key)
    show('how many', lambda: len(controller.list_ephemeral_hidden_services()))
    show('remove', controller.remove_ephemeral_hidden_service, new.service_id)
    show('remove again', controller.remove_ephemeral_hidden_service, new.service_id)
    detached = controller.create_ephemeral_hidden_service(
        80, detached=True, key_type='ED25519-V3', key_content=OTHER_KEY)
    with connect(path) as other:
        show('others see', other.list_ephemeral_hidden_services, our_services=True, detached=True)
        show('others cannot remove', other.remove_ephemeral_hidden_service, made.service_id)
        show('others remove', other.remove_ephemeral_hidden_service, detached.service_id)
        show('collides too', other.create_ephemeral_hidden_service, 80, key_type='ED25519-V3', key_content=KEY)
    controller.remove_ephemeral_hidden_service(made.service_id)

    # What one leaves without removing it is gone with it, though not at the same instant.
    with connect(path) as other:
        other.create_ephemeral_hidden_service(80, key_type='ED25519-V3', key_content=KEY)
    begun = time.monotonic()
    while time.monotonic() < begun + PATIENCE:
        try:
            controller.create_ephemeral_hidden_service(80, key_type='ED25519-V3', key_content=KEY)
            print('gone with its controller')
            break
        except stem.ControllerError:
            pass
    show('no hidden services', controller.get_hidden_service_conf)
    show('client key', lambda: str(controller.msg(f'ONION_CLIENT_AUTH_ADD {ADDRESS} x25519:{"aGho" * 10}aGg=')))
    show('client keys', lambda: str(controller.msg('ONION_CLIENT_AUTH_VIEW')))
    show('fetch', lambda: str(controller.msg(f'HSFETCH {ADDRESS}')))


def events(controller):
    heard = {}
    for name in ('CONF_CHANGED', 'SIGNAL', 'BW', 'NOTICE'):
        heard[name] = queue.Queue()
        controller.add_event_listener(heard[name].put, name)
    controller.set_conf('ContactInfo', 'for an event')
    print('event:', str(heard['CONF_CHANGED'].get(timeout=PATIENCE)))
    for signal in ('CLEARDNSCACHE', 'DUMP', 'HEARTBEAT'):
        controller.signal(signal)
        print('event:', heard['SIGNAL'].get(timeout=PATIENCE).signal)
    event = heard['BW'].get(timeout=PATIENCE)
    print('event:', type(event).__name__, isinstance(event.read, int), isinstance(event.written, int))
    event = heard['NOTICE'].get(timeout=PATIENCE)
    print('event:', event.runlevel, event.message.split(':')[0])
    # Tor may delay it, and the event with it.
    show('new identity', controller.signal, 'NEWNYM')
    show('unknown signal', controller.signal, 'NOTHING')
    for listener in heard.values():
        show('unsubscribe', controller.remove_event_listener, listener.put)
    show('unknown event', controller.add_event_listener, print, 'NOTHING')
    # stem asks for it again with every other, so it has to forget it.
    show('forget it', controller.remove_event_listener, print)
    show('heartbeat is a time', lambda: controller.get_latest_heartbeat() <= time.time())


def circuits(controller):
    show('circuits', controller.get_circuits)
    show('circuit', controller.get_circuit, 5)
    show('streams', controller.get_streams)
    show('new circuit', controller.new_circuit)
    show('new circuit by', controller.new_circuit, ['moria1', 'dannenberg'])
    show('extend', controller.extend_circuit, '5', 'moria1')
    show('repurpose', controller.repurpose_circuit, '5', 'general')
    show('close circuit', controller.close_circuit, '5')
    show('attach', controller.attach_stream, '1', '5')
    show('close stream', controller.close_stream, '1')
    show('map', controller.map_address, {'one.example': 'two.example', '1.2.3.4': 'three.example'})
    show('map badly', controller.map_address, {'one.example': ''})
    show('drop guards', controller.drop_guards)
    show('own', lambda: str(controller.msg('TAKEOWNERSHIP')))
    show('own no more', lambda: str(controller.msg('DROPOWNERSHIP')))


def end(controller):
    closed = queue.Queue()
    controller.add_status_listener(lambda _, state, __: closed.put(state), State.CLOSED)
    show('halt', controller.signal, 'HALT')
    print('then:', closed.get(timeout=PATIENCE), controller.is_alive())
    show('and then', controller.get_info, 'version')
    controller.close()


def main():
    path = sys.argv[1]
    with connect(path) as first:
        basics(first)
        show('quit', lambda: str(first.msg('QUIT')))
    print('left:', first.is_alive())
    controller = connect(path)
    info(controller)
    conf(controller, path)
    onions(controller, path)
    events(controller)
    circuits(controller)
    end(controller)


main()
