import java.io.IOException;
import java.net.Socket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;

import net.freehaven.tor.control.ConfigEntry;
import net.freehaven.tor.control.EventHandler;
import net.freehaven.tor.control.TorControlCommands;
import net.freehaven.tor.control.TorControlConnection;
import net.freehaven.tor.control.TorControlConnection0;
import net.freehaven.tor.control.TorControlError;

/**
 * Goes through everything that the v0 connection of jtorctl (2005 to 2007) can do, and ends with a failure where it
 * finds something wrong.
 *
 * <pre>java JtorctlWalk.java SCENARIO PORT HOME</pre>
 *
 * The classes are none of this project: they must be on the class path. SCENARIO is the name of a case in {@link #main}, PORT leads to a daemon's v0
 * socket, and HOME is the daemon's directory.
 */
public class JtorctlWalk implements TorControlCommands {
    private static final int PATIENCE = 30;

    /** What the client has told its handler: the kind of event, then its values. */
    private static final class Heard implements EventHandler {
        private final BlockingQueue<List<String>> events = new LinkedBlockingQueue<>();

        @Override public void circuitStatus(String status, String id, String path) {
            events.add(List.of("CIRC", status, id, path));
        }

        @Override public void streamStatus(String status, String id, String target) {
            events.add(List.of("STREAM", status, id, target));
        }

        @Override public void orConnStatus(String status, String name) {
            events.add(List.of("ORCONN", status, name));
        }

        @Override public void bandwidthUsed(long read, long written) {
            events.add(List.of("BW", Long.toString(read), Long.toString(written)));
        }

        @Override public void newDescriptors(List list) {
            events.add(List.of("NEWDESC", list.toString()));
        }

        @Override public void message(String severity, String text) {
            events.add(List.of(severity, text));
        }

        @Override public void unrecognized(String type, String text) {
            events.add(List.of("?", type, text));
        }

        void until(String kind, String part) throws InterruptedException {
            List<String> event;
            do {
                event = events.poll(PATIENCE, TimeUnit.SECONDS);
                if (event == null) {
                    throw new AssertionError("no event " + kind + " with " + part);
                }
            } while (!event.get(0).equals(kind) || !event.toString().contains(part));
            System.out.println("event " + event);
        }
    }

    private interface Call {
        Object call() throws Exception;
    }

    private final TorControlConnection connection;
    private final Heard heard = new Heard();
    /** The client's own, which reads. */
    private final Thread reader;

    private JtorctlWalk(TorControlConnection connection) {
        this.connection = connection;
        connection.setEventHandler(heard);
        reader = connection.launchThread(true);
        reader.setUncaughtExceptionHandler((thread, error) -> System.out.println("the reader has ended: " + error));
    }

    /** The daemon must close, which is an exception in the thread that reads. */
    private void ends() throws InterruptedException {
        reader.join(PATIENCE * 1000L);
        same("whether the connection still lives", reader.isAlive(), false);
    }

    private static void same(String what, Object got, Object wanted) {
        if (!Objects.equals(got, wanted)) {
            throw new AssertionError(what + ": expected " + wanted + " and got " + got);
        }
    }

    /** The call must throw the client's own exception for this code. */
    private static void fails(int code, Call call) throws Exception {
        Object result;
        try {
            result = call.call();
        } catch (TorControlError error) {
            same("the code of '" + error.getMessage() + "'", error.getErrorType(), code);
            same("whether it says something", error.getMessage().isEmpty(), false);
            System.out.println(error.getErrorMsg() + ": " + error.getMessage());
            return;
        }
        throw new AssertionError("expected error " + code + " and got " + result);
    }

    private static Object nothing() {
        return "success";
    }

    /** Options as `Key Value`. */
    private List<String> conf(String... keys) throws IOException {
        List<?> entries = connection.getConf(Arrays.asList(keys));
        return entries.stream().map(each -> (ConfigEntry) each).map(each -> each.key + " " + each.value)
            .collect(Collectors.toList());
    }

    private void configuration() throws Exception {
        connection.setConf("ContactInfo", "Somebody \"at\" a \\ place");
        same("a text", conf("contactinfo"), List.of("ContactInfo Somebody \"at\" a \\ place"));
        connection.setConf(List.of("maxcircuitdirtiness 700", "NewCircuitPeriod 40"));
        List<String> several = conf("MaxCircuitDirtiness", "NewCircuitPeriod", "DisableNetwork");
        same("several", several, List.of("MaxCircuitDirtiness 700", "NewCircuitPeriod 40", "DisableNetwork 1"));
        // With an empty line behind each.
        Map<String, String> map = new LinkedHashMap<>();
        map.put("MaxCircuitDirtiness", "800");
        map.put("NewCircuitPeriod", "50");
        connection.setConf(map);
        same("by a map", conf("MaxCircuitDirtiness"), List.of("MaxCircuitDirtiness 800"));
        connection.resetConf(List.of("MaxCircuitDirtiness", "NewCircuitPeriod"));
        List<String> defaults = List.of("MaxCircuitDirtiness 600", "NewCircuitPeriod 30");
        same("the defaults", conf("MaxCircuitDirtiness", "NewCircuitPeriod"), defaults);
        connection.setConf(List.of("Log notice stdout", "Log err stderr"));
        same("a list", conf("Log"), List.of("Log notice stdout", "Log err stderr"));
        fails(0x0004, () -> conf("NoSuchOption"));
        fails(0x0004, () -> { connection.setConf("NoSuchOption", "1"); return nothing(); });
        fails(0x0005, () -> { connection.setConf("MaxCircuitDirtiness", "soon"); return nothing(); });
    }

    private void whatDoesNotFitOneMessage() throws Exception {
        String value = "x".repeat(40_000);
        connection.setConf("ContactInfo", value);
        String entry = "ContactInfo " + value;
        same("a long value, twice", conf("ContactInfo", "ContactInfo").equals(List.of(entry, entry)), true);
        connection.resetConf(List.of("ContactInfo"));
        List<String> keys = List.of("config/names", "config/defaults", "info/names");
        List<String> thrice = Collections.nCopies(3, keys).stream().flatMap(List::stream).collect(Collectors.toList());
        Map<?, ?> values = connection.getInfo(thrice);
        same("the number of keys", values.size(), keys.size());
        for (String key : keys) {
            String alone = connection.getInfo(key);
            same(key, values.get(key).equals(alone), true);
            System.out.println(key + ": " + alone.length() + " characters");
        }
    }

    private void information() throws Exception {
        System.out.println("version: " + connection.getInfo("version"));
        fails(0x0004, () -> connection.getInfo("no-such-key"));
        fails(0x0004, () -> connection.getInfo(List.of("version", "no-such-key")));
    }

    private void addresses() throws Exception {
        // It ends in an empty line.
        same("one", connection.mapAddress("1.2.3.4", "foobaz.example"), "foobaz.example");
        String list = connection.getInfo("addr-mappings/control");
        same("the list", list.trim(), "1.2.3.4 foobaz.example");
        Map<?, ?> several = connection.mapAddresses(
            List.of("0.0.0.0 foobar.example", "frebnitz.example 5.6.7.8", ". abacinator.example"));
        same("the number", several.size(), 3);
        same("what was given", several.get("frebnitz.example"), "5.6.7.8");
        for (Map.Entry<?, ?> each : several.entrySet()) {
            String from = (String) each.getKey();
            boolean chosen = switch ((String) each.getValue()) {
                case "foobar.example" -> from.startsWith("127.");
                case "abacinator.example" -> from.endsWith(".virtual");
                default -> from.equals("frebnitz.example");
            };
            same(each.toString(), chosen, true);
        }
        fails(0x0003, () -> connection.mapAddress("1.2.3.4", "not plausible"));
    }

    private void circuitsAndStreams() throws Exception {
        fails(0x000C, () -> connection.extendCircuit("0", "moria1"));
        fails(0x000C, () -> connection.extendCircuit("0", "moria1,$" + "A".repeat(40)));
        fails(0x000B, () -> connection.extendCircuit("4321", "moria1"));
        fails(0x000A, () -> { connection.attachStream("4321", "0"); return nothing(); });
        fails(0x000A, () -> { connection.attachStream("4294967295", "1234"); return nothing(); });
        fails(0x000A, () -> { connection.redirectStream("4321", "www.example"); return nothing(); });
        fails(0x000A, () -> { connection.closeStream("4321", (byte) 1); return nothing(); });
        fails(0x000B, () -> { connection.closeCircuit("4321", false); return nothing(); });
        fails(0x000B, () -> { connection.closeCircuit("4321", true); return nothing(); });
        fails(0x0003, () -> connection.postDescriptor("router nobody\n"));
    }

    private void events() throws Exception {
        connection.setEvents(List.of(EVENT_BANDWIDTH));
        heard.until("BW", "");
        connection.setEvents(List.of(EVENT_CIRCSTATUS, EVENT_STREAMSTATUS, EVENT_ORCONNSTATUS, EVENT_NEWDESCRIPTOR,
            EVENT_MSG_INFO, EVENT_MSG_NOTICE, EVENT_MSG_WARN, EVENT_MSG_ERROR));
        connection.signal("RELOAD");
        heard.until("NOTICE", "reload");
        connection.signal("DUMP");
        heard.until("INFO", "");
        connection.setEvents(List.of(EVENT_MSG_DEBUG));
        connection.signal("DEBUG");
        heard.until("DEBUG", "");
        fails(0x0006, () -> { connection.setEvents(List.of(0x0C0C)); return nothing(); });
        connection.setEvents(List.of());
    }

    private void withTor() throws Exception {
        connection.authenticate(null);
        events();
        configuration();
        whatDoesNotFitOneMessage();
        information();
        addresses();
        circuitsAndStreams();
        connection.saveConf();
        connection.signal("HALT");
        ends();
    }

    private void alone() throws Exception {
        connection.authenticate(new byte[0]);
        connection.setConf("BusHistory", "50");
        same("the bus's own", conf("bushistory"), List.of("BusHistory 50"));
        connection.resetConf(List.of("BusHistory"));
        same("its default", conf("BusHistory"), List.of("BusHistory 100"));
        fails(0x0005, () -> { connection.setConf("BusHistory", "many"); return nothing(); });
        fails(0x0004, () -> conf("BusNoSuchOption"));
        System.out.println("version: " + connection.getInfo("version"));
        connection.setEvents(List.of(EVENT_BANDWIDTH));
        heard.until("BW", "");
        connection.setEvents(List.of());
    }

    private void withCookie(byte[] cookie) throws Exception {
        fails(0x0007, () -> connection.getInfo("version"));
        fails(0x0007, () -> { connection.saveConf(); return nothing(); });
        connection.authenticate(cookie);
        System.out.println("version: " + connection.getInfo("version"));
    }

    private static Socket socket(int port) throws IOException {
        Socket socket = new Socket("127.0.0.1", port);
        socket.setSoTimeout(PATIENCE * 1000);
        // The client writes a header in two parts, and the second would wait until the first has been acknowledged.
        socket.setTcpNoDelay(true);
        return socket;
    }

    public static void main(String[] arguments) throws Exception {
        int port = Integer.parseInt(arguments[1]);
        switch (arguments[0]) {
            // It finds out by itself which protocol is spoken.
            case "with_tor" -> new JtorctlWalk(TorControlConnection.getConnection(socket(port))).withTor();
            case "alone" -> {
                new JtorctlWalk(new TorControlConnection0(socket(port))).alone();
                // The client sends six octets too many before the second part's header. Nothing can be said on this
                // connection after it.
                JtorctlWalk other = new JtorctlWalk(new TorControlConnection0(socket(port)));
                fails(0x0003, () -> { other.connection.setConf("ContactInfo", "x".repeat(70_000)); return nothing(); });
            }
            case "with_cookie" -> {
                byte[] cookie = Files.readAllBytes(Path.of(arguments[2], "state/control_auth_cookie"));
                new JtorctlWalk(new TorControlConnection0(socket(port))).withCookie(cookie);
                byte[] wrong = new byte[cookie.length];
                JtorctlWalk other = new JtorctlWalk(new TorControlConnection0(socket(port)));
                fails(0x0008, () -> { other.connection.authenticate(wrong); return nothing(); });
                other.ends();
            }
            default -> throw new IllegalArgumentException(arguments[0]);
        }
        System.out.println("all as expected");
        // The client's own threads may wait for ever.
        System.exit(0);
    }
}
