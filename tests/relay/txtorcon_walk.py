"""Starts txtorcon on a control socket and prints what it finds.

usage: txtorcon_walk.py SOCKET

What cannot be the same twice is not printed, so that two walks can be compared.
"""

import sys

import txtorcon
from twisted.internet import defer, task
from twisted.internet.endpoints import UNIXClientEndpoint

KEY = 'ED25519-V3:' + 'aGho' * 21 + 'aA=='


async def show(name, result):
    """Prints what a call gives in the end, or how it fails."""
    try:
        value = await result
    except Exception as error:  # whatever it is, it has to be the same
        value = f'{type(error).__name__}: {error}'
    if isinstance(value, dict):
        value = sorted(value.items())
    print(f'{name}: {value!r}')
    return value


async def walk(reactor, path):
    tor = await txtorcon.connect(reactor, UNIXClientEndpoint(reactor, path))
    protocol = tor.protocol
    print('version:', tor.version)
    print('process is known:', await protocol.get_info('process/pid') is not None)
    # The bus adds its own to those.
    signals = (await protocol.get_info('signal/names'))['signal/names'].split()
    print('signals:', sorted(set(signals) - {'BUSRELOAD', 'BUSSHUTDOWN'}))
    own = {'POSTMESSAGE', 'CONTROLLER', 'TOR', 'RESTORE', 'LEASE', 'DENIED', 'ACTION'}
    print('events:', sorted(set(protocol.valid_events) - own))
    await show('info', protocol.get_info('version', 'accounting/enabled', 'info/nothing'))
    await show('info of two', protocol.get_info('accounting/enabled', 'net/listeners/socks'))
    await show('one', protocol.get_info_single('config-file'))
    await show('conf', protocol.get_conf('ContactInfo', 'MaxCircuitDirtiness'))
    await show('set', protocol.set_conf('ContactInfo', 'txtorcon'))
    await show('set badly', protocol.set_conf('MaxCircuitDirtiness', 'ten'))
    await show('signal', protocol.signal('CLEARDNSCACHE'))
    await show('unknown', protocol.queue_command('FOO'))

    config = await tor.get_config()
    print('socks:', list(config.SocksPort), 'contact:', config.ContactInfo)
    names = sorted(name for name in config.config if not name.startswith('Bus'))
    print(len(names), 'options:', names)
    changes = defer.DeferredQueue()
    await protocol.add_event_listener('CONF_CHANGED', changes.put)
    config.ContactInfo = 'saved'
    await config.save()
    await show('saved', protocol.get_conf('ContactInfo'))
    await show('changed', changes.get())
    await show('reset', protocol.queue_command('RESETCONF ContactInfo'))
    # Waited for: txtorcon cannot bear an event while it asks for ns/all.
    await show('changed', changes.get())

    state = await tor.create_state()
    print('state:', state.circuits, state.streams, len(state.routers), state.entry_guards)
    print('mapped:', state.addrmap.addr)
    await show('circuit', state.build_circuit())

    # It waits for the upload of a descriptor, for which there is no network.
    service = tor.create_onion_service([(80, 8080)], private_key=KEY)
    service.addErrback(lambda failure: failure.trap(defer.CancelledError))
    current = ''
    while not current:
        current = (await protocol.get_info('onions/current'))['onions/current']
    print('onion:', current.strip())
    await show('remove', protocol.queue_command(f'DEL_ONION {current.strip()}'))
    await show('remove again', protocol.queue_command(f'DEL_ONION {current.strip()}'))
    service.cancel()

    gone = protocol.on_disconnect
    gone.addErrback(lambda failure: None)
    await show('halt', protocol.signal('HALT'))
    await gone
    print('and is gone')


task.react(lambda reactor, path: defer.ensureDeferred(walk(reactor, path)), sys.argv[1:])
