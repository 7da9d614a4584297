# The whole client of the daemon as a backend runs it: the standard library and zmq, nothing else.
# The Makefile puts this file inside the function _steadytext_call, which runs it once per backend.
import errno
import hashlib
import json
import os
import select
import socket
import time
import uuid

SLICE_MS = 50  # how long a wait lasts before PostgreSQL may interrupt it
UNREACHABLE_S = 15.0  # how long a daemon that is being started may take to answer
RESENDS = 3  # a request that ended the daemon this often is given up
ACK_EVERY = 8
NEVER_MS = 2**30
SILENCE_S = 30.0  # for how long a daemon that did not tell is not asked what it would refuse
CHECKED = 1000
DEFAULT_SUPERVISOR = "/run/pg_steadytext/supervisor.sock"


class RequestError(Exception):
    """What the caller will read: a message, its SQLSTATE and a hint."""

    def __init__(self, message, code, hint=None):
        super().__init__(message)
        self.reply = {"error": message, "code": code, "hint": hint, "result": None}


class UnreachableError(Exception):
    """Nobody answers at the endpoint, or the connection was lost."""


class Link:
    """One connected DEALER socket with the monitor that tells when it is lost."""

    def __init__(self, address, keys):
        import zmq

        self.zmq = zmq
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        # never again within this link's life; with -1 an answer that arrived just before the end would be lost with it
        self.socket.setsockopt(zmq.RECONNECT_IVL, NEVER_MS)
        self.socket.setsockopt(zmq.HEARTBEAT_IVL, 1000)
        self.socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 5000)
        self.socket.setsockopt(zmq.IPV6, int(address.startswith("tcp://[")))
        if keys.get("server_key"):
            self.socket.curve_serverkey = keys["server_key"].encode("ascii")
            self.socket.curve_publickey = keys["public_key"].encode("ascii")
            self.socket.curve_secretkey = keys["secret_key"].encode("ascii")
        self.monitor = self.socket.get_monitor_socket(
            zmq.EVENT_DISCONNECTED
            | zmq.EVENT_CLOSED
            | zmq.EVENT_CONNECT_RETRIED
            | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
            | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
            | zmq.EVENT_HANDSHAKE_FAILED_AUTH
        )
        self.poller = zmq.Poller()
        self.poller.register(self.socket, zmq.POLLIN)
        self.poller.register(self.monitor, zmq.POLLIN)
        self.socket.connect(address)

    def close(self):
        self.socket.disable_monitor()
        self.monitor.close(0)
        self.socket.close(0)

    def lost(self):
        """Whether an event says that the connection is no longer there."""
        return bool(self.monitor.poll(0))

    def send(self, message):
        try:
            self.socket.send_multipart([b"", json.dumps(message).encode()], self.zmq.NOBLOCK)
        except self.zmq.Again:
            raise UnreachableError("the connection takes no more requests") from None

    def receive(self, wait_ms):
        """The next message, or None when `wait_ms` have passed. Raises UnreachableError when the connection is lost."""
        ready = dict(self.poller.poll(wait_ms))
        # an answer and the end of the connection may arrive together: the answer counts
        if self.socket in ready or (self.monitor in ready and self.socket.poll(0)):
            return self.socket.recv_multipart(self.zmq.NOBLOCK)[-1]
        if self.monitor in ready:
            raise UnreachableError("the connection was lost")
        return None


class Client:
    """Carries requests to the daemon; `plpy` is the calling function's."""

    def __init__(self, plpy):
        self.plpy = plpy
        self.link = None
        self.key = None
        self.pid = os.getpid()
        self.checked = set()
        self.silent_until = 0.0

    # Public: what the two functions of the seam call.

    def call(self, endpoint, request, timeout_ms, options):
        """Ask one question; returns the reply as JSON text, a failure like any other reply."""
        try:
            message = json.loads(request)
            if endpoint == "supervisor":
                return json.dumps(self.supervise(message))
            until = time.monotonic() + timeout_ms / 1000
            if message["method"] == "check":
                return self.check(endpoint, message, until, json.loads(options))
            return self.ask(endpoint, message, until, json.loads(options))
        except RequestError as failure:
            return json.dumps(failure.reply)
        except self.plpy.SPIError as error:
            return json.dumps(interrupted(error))

    def stream(self, endpoint, request, timeout_ms, options):
        """Yield "p" + piece for each piece, then "d" + the reply that ends the text, or "e" + a failure."""
        link = None
        try:
            message = json.loads(request)
            options = json.loads(options)
            taken, text, attempts = 0, [], 0
            while True:
                link = self.connected(endpoint, options, time.monotonic() + timeout_ms / 1000)
                skip = sum(map(len, text))
                try:
                    for result in self.replies(link, message, timeout_ms):
                        if "done" in result:
                            link.close()
                            link = None
                            yield "d" + json.dumps({**result, "text": "".join(text)})
                            return
                        piece = result["piece"][skip:]
                        skip -= min(skip, len(result["piece"]))
                        if piece:
                            text.append(piece)
                            yield "p" + piece
                        taken += 1
                        if taken % ACK_EVERY == 0:
                            link.send({"method": "ack", "id": self.request_id, "params": {"pieces": ACK_EVERY}})
                except UnreachableError:
                    link.close()
                    link = None
                    attempts += 1
                    if attempts > RESENDS:
                        raise unreachable(endpoint, "it went away repeatedly") from None
        except RequestError as failure:
            yield "e" + json.dumps(failure.reply)
        except self.plpy.SPIError as error:
            yield "e" + json.dumps(interrupted(error))
        finally:
            if link is not None:
                link.close()

    # Requests.

    def ask(self, endpoint, message, until, options):
        for _ in range(RESENDS + 1):
            link = self.shared_link(endpoint, options, until)
            request_id = uuid.uuid4().hex
            try:
                self.post(link, request_id, message, until)
                return self.answer(link, request_id, until)
            except UnreachableError:
                self.drop()
            except Exception:
                self.cancel(link, request_id)
                raise
        raise unreachable(endpoint, "it went away repeatedly")

    def check(self, endpoint, message, until, options):
        """What the daemon says of a constraint, asked once for each; where nobody tells, nothing is refused."""
        passed = json.dumps({"error": None})
        digest = hashlib.sha256(json.dumps(message).encode()).digest()
        if digest in self.checked or time.monotonic() < self.silent_until:
            return passed
        try:
            reply = self.ask(endpoint, message, until, {**options, "auto_start": False})
        except RequestError:
            self.silent_until = time.monotonic() + SILENCE_S
            return passed
        if json.loads(reply)["error"] is None:
            if len(self.checked) >= CHECKED:
                self.checked.clear()
            self.checked.add(digest)
        return reply

    def post(self, link, request_id, message, until):
        left = max(0, int((until - time.monotonic()) * 1000))
        link.send({**message, "id": request_id, "client": "pg_steadytext", "deadline_ms": left})

    def cancel(self, link, request_id):
        try:
            link.send({"method": "cancel", "params": {"id": request_id}, "id": "", "client": "pg_steadytext"})
        except UnreachableError:
            self.drop()

    def answer(self, link, request_id, until):
        """The reply to one request; replies to requests that were given up pass by."""
        while True:
            body = self.next_message(link, until)
            if json.loads(body).get("id") == request_id:
                return body.decode()

    def replies(self, link, message, timeout_ms):
        self.request_id = request_id = uuid.uuid4().hex
        link.send({**message, "id": request_id, "client": "pg_steadytext"})
        while True:
            reply = json.loads(self.next_message(link, time.monotonic() + timeout_ms / 1000))
            if reply.get("id") != request_id:
                continue
            if reply["error"] is not None:
                raise RequestError(reply["error"], reply.get("code") or "58000", reply.get("hint"))
            self.request_id = request_id
            yield reply["result"]

    def next_message(self, link, until):
        while True:
            left = until - time.monotonic()
            if left <= 0:
                raise RequestError("the daemon did not answer in time", "57014", "request_timeout_ms sets the limit.")
            body = link.receive(min(SLICE_MS, left * 1000))
            if body is not None:
                return body
            self.breathe()

    def breathe(self):
        """Let PostgreSQL act on a cancel, a statement_timeout or a shutdown."""
        self.plpy.execute("SELECT 1")

    # The connection.

    def shared_link(self, endpoint, options, until):
        """This backend's connection, made anew after a fork, a change of settings or a loss."""
        key = (endpoint, options["server_key"], options["public_key"], options["secret_key"])
        if self.pid != os.getpid():
            self.link, self.pid = None, os.getpid()
        if self.link is not None and (self.key != key or self.link.lost()):
            self.drop()
        if self.link is None:
            self.link = self.connected(endpoint, options, until)
            self.key = key
        return self.link

    def drop(self):
        if self.link is not None:
            self.link.close()
            self.link = None

    def connected(self, endpoint, options, until):
        """A connection. With auto_start, the supervisor is asked to start a daemon that is not there."""
        give_up = min(until, time.monotonic() + UNREACHABLE_S)
        asked = False
        while True:
            try:
                return Link(self.probe(endpoint), options)
            except UnreachableError as reason:
                if not options["auto_start"]:
                    raise unreachable(endpoint, reason) from None
                if not asked:
                    self.start(endpoint, reason)
                    asked = True
                elif time.monotonic() >= give_up:
                    raise unreachable(endpoint, reason) from None
                time.sleep(SLICE_MS / 1000)
                self.breathe()

    def start(self, endpoint, reason):
        try:
            reply = self.supervise({"command": "start", "service": "daemon"})
        except RequestError as failure:
            raise unreachable(endpoint, f"{reason}, and {failure}") from None
        if reply["error"] is not None:
            raise unreachable(endpoint, f"{reason}, and the supervisor says: {reply['error']}")

    def probe(self, endpoint):
        """The address that takes connections, found with a plain socket: zmq would retry in silence."""
        if endpoint.startswith("ipc://"):
            self.knock(socket.AF_UNIX, endpoint[len("ipc://") :])
            return endpoint
        host, _, port = endpoint[len("tcp://") :].rpartition(":")
        try:
            found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
        except OSError as error:
            raise UnreachableError(error.strerror or str(error)) from None
        reason = UnreachableError("no address")
        for family, _kind, _protocol, _name, address in sorted(found, key=lambda entry: entry[0] != socket.AF_INET):
            try:
                self.knock(family, address)
            except UnreachableError as refused:
                reason = refused
            else:
                return f"tcp://[{address[0]}]:{port}" if ":" in address[0] else f"tcp://{address[0]}:{port}"
        raise reason

    def knock(self, family, address, wait_s=2.0):
        with socket.socket(family, socket.SOCK_STREAM) as knocker:
            knocker.setblocking(False)
            code = knocker.connect_ex(address)
            until = time.monotonic() + wait_s
            while code in (errno.EINPROGRESS, errno.EAGAIN):
                if select.select([], [knocker], [], SLICE_MS / 1000)[1]:
                    code = knocker.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    break
                if time.monotonic() > until:
                    code = errno.ETIMEDOUT
                self.breathe()
            if code:
                raise UnreachableError(os.strerror(code))

    # The supervisor.

    def supervise(self, command):
        """Send the supervisor one command; a backend never runs a program itself."""
        rows = self.plpy.execute(
            "SELECT setting FROM pg_catalog.pg_file_settings WHERE name OPERATOR(pg_catalog.=) "
            "'steadytext.supervisor_socket' AND error IS NULL ORDER BY seqno DESC LIMIT 1"
        )
        path = rows[0]["setting"] if len(rows) and rows[0]["setting"] else DEFAULT_SUPERVISOR
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
                line.settimeout(SLICE_MS / 1000)
                line.connect(path)
                line.sendall(json.dumps(command).encode() + b"\n")
                reply = json.loads(self.read_line(line))
        except (OSError, ValueError) as error:
            raise RequestError(
                f"the supervisor at {path} does not answer: {error}",
                "08001",
                'Start it with "pg-steadytext up", or name its socket in steadytext.supervisor_socket.',
            ) from None
        return {"result": reply, "error": None if reply.get("ok") else str(reply.get("error")), "code": "58000"}

    def read_line(self, line, wait_s=30.0):
        received, until = b"", time.monotonic() + wait_s
        while not received.endswith(b"\n"):
            try:
                part = line.recv(65536)
            except TimeoutError:
                self.breathe()
                if time.monotonic() > until:
                    raise
                continue
            if not part:
                break
            received += part
        return received


def interrupted(error):
    """A cancel, a timeout or another error of PostgreSQL's own, without PL/Python's prefix."""
    return {"error": str(error.args[0] if error.args else error), "code": error.sqlstate or "57014", "hint": None}


def unreachable(endpoint, reason):
    return RequestError(
        f"could not reach the daemon at {endpoint}: {reason}",
        "08001",
        "pg-steadytext up starts it; daemon_host and daemon_port tell where it is looked for.",
    )
