import Foundation
import Node
import Primitives
import Telemetry
import Topologies

/// The demo's processes and its time line.
final class DemoRun {
    private let folder: String
    private let topology: Topology
    private let peers: Int
    private let tokens: Int
    private let kill: Bool
    private let quiet: Bool
    private let seed: UInt64
    private var children: [String: Process] = [:]
    private var order: [String] = []
    private let view: ProgressView
    private var killAt: Date?
    private var victim: String?
    private var stretch = 1.0
    private var port: UInt16 = 0

    init(folder: String, topology: Topology, peers: Int, tokens: Int, kill: Bool, quiet: Bool, seed: UInt64) {
        self.folder = folder
        self.topology = topology
        self.peers = peers
        self.tokens = tokens
        self.kill = kill
        self.quiet = quiet
        self.seed = seed
        view = ProgressView(
            quiet: quiet, subject: .init(stopping: "To stop: ^C here; it ends every process of the demo."))
    }

    /// Runs to the end; the exit code of the launch, or 130 after ^C.
    func run() throws -> Int32 {
        let started = Date()
        try chooseStretch()
        port = try freePort()
        say(
            "\(peers) peers of \(topology.name), each a process with its own key, folder, links and pace, on this machine"
        )
        let bootstrap = topology.hosts.firstIndex { $0.role == .bootstrap }!
        let invite = folder + "/invite.yaml"
        try spawn(bootstrap, ["node", "--invite", invite, "--pool", "demo"])
        try waitFor(invite)
        for index in topology.peers {
            try spawn(index, ["peer", "--invite", invite, "--json", "--log-level", "debug"])
        }
        let coordinator = topology.hosts.firstIndex { $0.role == .coordinator }!
        let launch = try spawn(
            coordinator,
            [
                "launch", folder + "/job.yaml", "--invite", invite, "--out", folder, "--peers", "\(peers)", "--events",
                "--log-level", "debug",
                "--wait", "90", "--record", folder + "/record.yaml",
            ], captured: true)
        let code = follow(launch)
        if code == 0 {
            let report = try readFile(folder + "/report.json")
            if !quiet { print(try summary(report, seconds: Date().timeIntervalSince(started))) }
        } else if code != 130 {
            let name = topology.hosts[coordinator].name
            let log = (try? String(contentsOfFile: folder + "/logs/\(name).log", encoding: .utf8)) ?? ""
            let last = log.split(separator: "\n").suffix(3).joined(separator: "\n")
            complain("the launch failed: \(last)\nlogs of all processes are in \(folder)/logs")
        }
        return code
    }

    // MARK: pace

    /// Eight paced devices must fit into this machine, with room for everything else.
    private func chooseStretch() throws {
        let wanted = topology.peers.reduce(0) { $0 + topology.hosts[$1].flops }
        let machine = measureMachine()
        stretch = max(1, wanted / (0.6 * machine))
        if stretch > 1 {
            stretch = (stretch * 20).rounded(.up) / 20
            say(
                "this machine sustains \(fixed(machine / 1e9, 0)) GFLOP/s, the topology's peers \(fixed(wanted / 1e9, 0)): "
                    + "all emulated time is stretched \(fixed(stretch, 2)) ×")
        }
    }

    // MARK: processes

    @discardableResult
    private func spawn(_ host: Int, _ arguments: [String], captured: Bool = false) throws -> Process {
        let name = topology.hosts[host].name
        let address = Emulation.address(of: host).map { "\($0)" }.joined(separator: ".")
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        var all =
            arguments + [
                "--listen", "\(address):\(port)", "--emulate", "\(folder)/topology.yaml#\(name)", "--stretch",
                "\(stretch)",
            ]
        let dataFolder = folder + "/hosts/" + name
        if arguments[0] == "launch" {
            all += ["--seed", "\(seed)"]
        } else {
            all += ["--data", dataFolder, "--seed", "\(seed &+ UInt64(host))"]
        }
        process.arguments = all
        var environment = ProcessInfo.processInfo.environment
        environment["ATOLL_PARENT"] = "\(getpid())"
        process.environment = environment
        try makeFolder(folder + "/logs")
        let logPath = folder + "/logs/\(name).log"
        try writeFile(logPath, [])
        let log = FileHandle(forWritingAtPath: logPath)
        process.standardInput = FileHandle.nullDevice
        process.standardError = log
        if captured { process.standardOutput = Pipe() } else { process.standardOutput = log }
        do { try process.run() } catch { throw NodeError.failed("cannot start \(arguments[0]): \(error)") }
        children[name] = process
        order.append(name)
        return process
    }

    private func waitFor(_ file: String) throws {
        let limit = Date().addingTimeInterval(20)
        while !FileManager.default.fileExists(atPath: file) {
            if Interrupt.asked { throw NodeError.failed("interrupted") }
            guard Date() < limit, let node = children[order[0]], node.isRunning else {
                let log = (try? String(contentsOfFile: folder + "/logs/\(order[0]).log", encoding: .utf8)) ?? ""
                throw NodeError.failed("the bootstrap node did not start: \(log)")
            }
            usleep(20_000)
        }
    }

    /// Reads the launch's events until it ends, and strikes when the topology (or half of the tokens) says so.
    private func follow(_ launch: Process) -> Int32 {
        let handle = (launch.standardOutput as! Pipe).fileHandleForReading
        let descriptor = handle.fileDescriptor
        var pending: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while true {
            if Interrupt.asked {
                view.end()
                return 130
            }
            strikeIfDue()
            var poll = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            guard Glibc.poll(&poll, 1, 100) > 0 else { continue }
            let count = read(descriptor, &buffer, buffer.count)
            guard count > 0 else { break }
            pending += buffer[0..<count]
            while let end = pending.firstIndex(of: 10) {
                let line = String(decoding: pending[..<end], as: UTF8.self)
                pending.removeFirst(end + 1)
                if let event = Event(json: line) { heed(event) }
            }
        }
        launch.waitUntilExit()
        view.end()
        return launch.terminationStatus
    }

    private func heed(_ event: Event) {
        view.show(event)
        guard kill, victim == nil, killAt == nil, case .roundSealed = event.what, let round = view.job.rounds.last
        else {
            return
        }
        let share = Double(round.tokens) / Double(tokens)
        let planned = topology.faults.first { if case .kill = $0.kind { true } else { false } }
        var moment = 0.5
        if case .progress(let at)? = planned?.at { moment = at }
        guard share >= moment, share < 1 else { return }
        // In the middle of a round, not at its edge.
        killAt = Date().addingTimeInterval(min(1, round.seconds / 2))
    }

    private func strikeIfDue() {
        guard let killAt, killAt <= Date(), victim == nil else { return }
        let planned = topology.faults.compactMap { fault -> String? in
            if case .kill = fault.kind { fault.host } else { nil }
        }
        // Somebody who holds layers: killing a spare would show nothing.
        let workers = view.job.plan?.workers ?? []
        let name = planned.first { workers.contains($0) } ?? workers.last ?? planned.first ?? order.last!
        guard let process = children[name], process.isRunning else { return }
        victim = name
        Foundation.kill(process.processIdentifier, SIGKILL)
        view.show(Event(.peerKilled, at: view.job.now, peer: name))
    }

    /// No process stays: asked first, then made to.
    func endAll() {
        for name in order.reversed() where children[name]!.isRunning { children[name]!.terminate() }
        let limit = Date().addingTimeInterval(3)
        while order.contains(where: { children[$0]!.isRunning }), Date() < limit { usleep(20_000) }
        for name in order where children[name]!.isRunning {
            Foundation.kill(children[name]!.processIdentifier, SIGKILL)
            children[name]!.waitUntilExit()
        }
    }

    // MARK: words

    private func say(_ line: String) { if !quiet { print(line) } }

    private func summary(_ bytes: [UInt8], seconds: Double) throws -> String {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        let report = try decoder.decode(RunReport.self, from: Data(bytes))
        var text = ReportText.text(report, folder: folder)
        text +=
            "\nthe whole demo took \(fixed(seconds, 0)) s. Go on with: atoll generate \(report.checkpoint) --prompt \"And God said\""
        return TerminalText.current.fitted(text)
    }

    /// A port that is free on the addresses the demo uses, for UDP and TCP.
    private func freePort() throws -> UInt16 {
        for _ in 0..<32 {
            let candidate = UInt16.random(in: 20_000...50_000)
            if topology.hosts.indices.allSatisfy({ isFree(Emulation.address(of: $0), candidate) }) { return candidate }
        }
        throw NodeError.failed("no free port found on loopback")
    }
    private func isFree(_ address: [UInt8], _ port: UInt16) -> Bool {
        canBind(Int32(SOCK_STREAM.rawValue), address, port) && canBind(Int32(SOCK_DGRAM.rawValue), address, port)
    }
    private func canBind(_ kind: Int32, _ address: [UInt8], _ port: UInt16) -> Bool {
        let socket = Glibc.socket(AF_INET, kind, 0)
        var name = sockaddr_in()
        name.sin_family = sa_family_t(AF_INET)
        name.sin_port = port.bigEndian
        name.sin_addr.s_addr = address.withUnsafeBytes { $0.load(as: UInt32.self) }
        let bound = withUnsafePointer(to: &name) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { Glibc.bind(socket, $0, 16) }
        }
        close(socket)
        return bound == 0
    }
}
