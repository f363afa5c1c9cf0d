"""Does with txtorcon what a desktop's program does, and tries what it may not.

usage: txtorcon_walk.py SOCKET ADDRESS

ADDRESS is a neighbour's onion service.
"""

import sys

import txtorcon
from twisted.internet import task
from twisted.internet.endpoints import UNIXClientEndpoint


async def tried(result):
    try:
        return await result
    except txtorcon.TorProtocolError as error:
        return str(error)


async def walk(reactor, path, neighbour):
    tor = await txtorcon.connect(reactor, UNIXClientEndpoint(reactor, path))
    config = await tor.get_config()
    print('config:', config.ContactInfo == txtorcon.DEFAULT_VALUE)
    # It comes back when the service is published.
    service = await tor.create_onion_service([(80, 17650)], version=3)
    print('service:', service.hostname.endswith('.onion'))
    current = await tor.protocol.get_info('onions/current')
    print('own:', current == {'onions/current': service.hostname.removesuffix('.onion')})
    await service.remove()
    print('deleted:', await tried(tor.protocol.queue_command(f'DEL_ONION {neighbour}')))
    print('port:', await tried(tor.protocol.queue_command('ADD_ONION NEW:BEST Port=22,22')))
    config.ContactInfo = 'me'
    print('option:', await tried(config.save()))
    print('signal:', await tried(tor.protocol.signal('HALT')))


task.react(walk, sys.argv[1:])
