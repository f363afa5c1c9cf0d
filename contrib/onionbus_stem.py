"""What plain stem lacks for onionbus: where its socket is, and how to send and read messages."""

import os
import stat

import stem
import stem.response

SYSTEM_SOCKET = '/run/onionbus/control'


def default_socket():
    """The socket that the commands of onionbus use: see --socket in onionbus(1)."""
    named = os.environ.get('ONIONBUS_SOCKET')

    if named:
        return named

    own = _socket_of_user()
    # Whoever has no daemon of their own means that of the system.
    return own if os.path.lexists(own) else SYSTEM_SOCKET


def _socket_of_user():
    if os.geteuid() == 0:
        return SYSTEM_SOCKET

    runtime = os.environ.get('XDG_RUNTIME_DIR', '')

    if os.path.isabs(runtime):
        return os.path.join(runtime, 'onionbus', 'control')

    temporary = os.environ.get('TMPDIR', '')
    private = os.path.join(temporary if os.path.isabs(temporary) else '/tmp', 'onionbus-%d' % os.geteuid())

    if os.path.lexists(private):
        # Anybody may make a directory of this name before the user does, and listen in it.
        found = os.lstat(private)

        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
            raise stem.SocketError('%s is not safe from other users: name another socket with --socket' % private)

    return os.path.join(private, 'control')


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
