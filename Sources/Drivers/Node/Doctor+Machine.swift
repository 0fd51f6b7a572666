import Daemon
import EventLoop
import Foundation
import Lending
import Pools
import Primitives
import Sensors

extension Doctor {
    // MARK: the network

    func network() -> [Diagnosis] {
        let (machine, daemons) = (scene.machine, scene.daemons.compactMap(\.status))
        var out: [Diagnosis] = []
        if let listen = scene.listen, listen.port != 0, daemons.isEmpty {
            out.append(
                Reachability.problem(listeningAt: listen).map {
                    Diagnosis(.portTaken, .fail, "\(listen): \($0)", try: "--listen with another port")
                } ?? Diagnosis(.portTaken, .ok, "\(listen) is free"))
        } else {
            out.append(Diagnosis(.portTaken, .ok, daemons.isEmpty ? "a free port is taken" : "a daemon listens"))
        }
        if let addresses = machine.addresses {
            out.append(
                addresses.isEmpty
                    ? Diagnosis(
                        .noAddress, .warn, "no interface but loopback is up", try: "connect this machine to a network")
                    : Diagnosis(.noAddress, .ok, "\(counted(addresses.count, "address", "addresses"))"))
        } else {
            out.append(Diagnosis(.noAddress, .unknown, "the system does not list its addresses"))
        }
        out.append(
            machine.descriptors < 256
                ? Diagnosis(
                    .fewDescriptors, machine.descriptors < DescriptorLimit.least ? .fail : .warn,
                    "\(machine.descriptors) files may be open, and a daemon needs \(DescriptorLimit.least)",
                    try: "ulimit -n 4096")
                : Diagnosis(.fewDescriptors, .ok, "\(machine.descriptors) files may be open"))
        let joined = daemons.filter(\.daemon.overlay.isJoined)
        let probed = scene.probe.flatMap { $0.overlay.isJoined ? $0.overlay : nil }
        let overlays = joined.map(\.daemon.overlay) + [probed].compactMap { $0 }
        if overlays.isEmpty {
            out.append(Diagnosis(.unreachable, .unknown, "no daemon runs that others could have tried to reach"))
        } else {
            out.append(
                overlays.contains { !$0.isReachable }
                    ? Diagnosis(
                        .unreachable, .warn, "others cannot reach this machine", try: "let its port in, TCP and UDP")
                    : Diagnosis(.unreachable, .ok, "others can reach this machine"))
            let relayed = joined.reduce(0) { $0 + $1.daemon.connections.count { $0.relayedBy != nil } }
            out.append(
                relayed > 0
                    ? Diagnosis(
                        .relayed, .warn, "\(counted(relayed, "connection", "connections")) through relays",
                        try: "let its port in, TCP and UDP")
                    : Diagnosis(.relayed, .ok, "no connection is relayed"))
        }
        out += lineFindings(overlays)
        return out + [wayOutIPv6()] + packets()
    }
    /// What is between this machine and the others.
    private func lineFindings(_ all: [DaemonStatus.Overlay]) -> [Diagnosis] {
        guard !all.isEmpty else { return [] }
        var out: [Diagnosis] = []
        let isReachable = all.contains(where: \.isReachable)
        let isSymmetric = all.contains { $0.datagramPorts == "varies" || $0.connectionPorts == "varies" }
        out.append(
            isSymmetric && !isReachable
                ? Diagnosis(
                    .symmetricRouter, .warn, "others see this machine at another port each",
                    try: "let the router forward a port")
                : Diagnosis(
                    .symmetricRouter, .ok,
                    isSymmetric ? "others come in all the same" : "no other port for each destination is seen"))
        let states = all.compactMap(\.forwarding)
        func find(_ state: DaemonStatus.Forwarding.State) -> DaemonStatus.Forwarding? {
            states.first { $0.state == state }
        }
        if let no = find(.refused) ?? find(.silent), !isReachable {
            out.append(
                Diagnosis(
                    .portNotForwarded, .warn,
                    no.state == .silent
                        ? "the router does not answer when asked for a port"
                        : "the router forwards no port: \(no.why ?? "it refuses")",
                    try: "switch NAT-PMP or PCP on in the router, or forward the port there"))
        } else {
            out.append(
                Diagnosis(
                    .portNotForwarded, .ok,
                    find(.open).map { "port \($0.endpoint ?? "") is forwarded here" }
                        ?? "nothing need be forwarded, or it is not known yet"))
        }
        out.append(
            find(.behind).map {
                Diagnosis(
                    .secondRouter, .warn,
                    "the router's own address is \($0.endpoint ?? "another"), others see \(all.compactMap(\.external).first ?? "another")",
                    try: "bridge one of the two routers, or ask the provider for a public address")
            } ?? Diagnosis(.secondRouter, .ok, "no second router is seen"))
        out.append(
            find(.vain).map {
                Diagnosis(
                    .forwardedInVain, .warn, "nobody came in at \($0.endpoint ?? "the forwarded port")",
                    try: "let it in at this machine's own firewall, too")
            } ?? Diagnosis(.forwardedInVain, .ok, "no forwarded port was tried in vain"))
        return out
    }
    private func wayOutIPv6() -> Diagnosis {
        let own = (scene.machine.addresses ?? []).filter(Self.isPublicIPv6)
        guard let first = own.first else {
            return Diagnosis(.brokenIPv6, .ok, "this machine has no public IPv6 address")
        }
        return scene.machine.hasWayOutIPv6
            ? Diagnosis(.brokenIPv6, .ok, "IPv6 is there")
            : Diagnosis(.brokenIPv6, .warn, "\(first.host) has no way out", try: "ip -6 route")
    }
    private func packets() -> [Diagnosis] {
        guard let path = scene.invite, let invite = try? Invite(file: path),
            let bytes = invite.nodes.prefix(4).lazy.compactMap(scene.machine.segmentBytes).first
        else { return [] }
        return [
            bytes < 1240
                ? Diagnosis(
                    .smallPackets, .warn, "segments to the pool's node have \(bytes) bytes",
                    try: "look for a tunnel on the way")
                : Diagnosis(.smallPackets, .ok, "segments to the pool's node have \(bytes) bytes")
        ]
    }
    private func counted(_ count: Int, _ one: String, _ many: String) -> String {
        "\(count) \(count == 1 ? one : many)"
    }

    // MARK: the pool and the job

    func pool() -> [Diagnosis] {
        var out: [Diagnosis] = []
        for daemon in scene.daemons where daemon.status == nil {
            out.append(
                Diagnosis(
                    .daemonSilent, .fail, "the daemon in \(daemon.folder) does not answer", try: "look at its process"))
        }
        for status in scene.daemons.compactMap(\.status) {
            let name = status.daemon.member?.name ?? "process \(status.process)"
            if let no = status.daemon.turnedAway {
                let code = no.code.flatMap(DiagnosisCode.init) ?? .notJoined
                out.append(
                    Diagnosis(code, .fail, "\(name) is let in by nobody: \(no.why)", try: "atoll help \(code.rawValue)")
                )
                continue
            }
            // A node of its own pool may be the first one there.
            guard status.daemon.overlay.isJoined else {
                out.append(Diagnosis(.notJoined, .warn, "\(name) has not joined its pool", try: "atoll help NET-002"))
                continue
            }
            guard let member = status.daemon.member else { continue }
            // Whoever has no job needs nobody but those whom it meets the pool by.
            if status.daemon.connections.isEmpty, member.job != nil {
                out.append(
                    Diagnosis(.noConnections, .warn, "\(name) is connected to nobody", try: "atoll why connections"))
            }
            if member.state == .waiting {
                out.append(
                    Diagnosis(
                        .leaderSilent, .warn, "the coordinator of the job of \(name) is not heard",
                        try: "atoll why waiting")
                )
            }
            guard let all = member.work?.microBatches else { continue }
            let wasted = all.late + all.lost + all.superseded
            if wasted * 5 > wasted + all.counted, wasted >= 5 {
                out.append(
                    Diagnosis(
                        .workLost, .warn, "\(wasted) of \(wasted + all.counted) micro-batches of \(name) do not count",
                        try: "atoll receipts"))
            }
        }
        guard out.isEmpty else { return out + standing() }
        return standing() + [
            scene.daemons.isEmpty
                ? Diagnosis(.notJoined, .unknown, "no daemon runs")
                : Diagnosis(.notJoined, .ok, "the daemons of this machine are in their pools")
        ]
    }

    /// As a member of a pool that keeps members.
    private func standing() -> [Diagnosis] {
        guard let membership else { return refusal.map { [$0] } ?? [] }
        guard case .member(let book) = membership else {
            guard case .unreadable(let why) = membership else { return [] }
            return [Diagnosis(.membershipOver, .fail, why, try: "move it away, and join with a new invite")]
        }
        if book.isRemoved {
            return [
                Diagnosis(
                    .removedFromPool, .fail, "whoever keeps the pool has removed this machine", try: "ask them why")
            ]
        }
        let left = book.credential.certificate.expires - scene.machine.wall
        let out = refusal ?? Diagnosis(.removedFromPool, .ok, "this machine has not heard that it was removed")
        if left > 0 || book.keepsPool {
            return [
                out, Diagnosis(.membershipOver, .ok, "its membership is in force for \(max(0, left) / 86_400) days"),
            ]
        }
        let isLost = -left > PoolBook.grace
        return [
            out,
            Diagnosis(
                .membershipOver, isLost ? .fail : .warn, "its membership ended \(-left / 86_400) days ago",
                try: isLost
                    ? "join with a new invite and a new folder" : "start it while a node that keeps the pool is up"),
        ]
    }

    /// Nodes of the pool have said that it was removed, when it started last or to the daemon that runs.
    private var refusal: Diagnosis? {
        let file = scene.folder + "/" + PoolEntry.removedFile
        let said = (try? readFile(file, limit: 64)).flatMap {
            Int64(String(decoding: $0, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines))
        }
        guard said != nil || scene.removed.contains(scene.folder) else { return nil }
        let since = said.map { ", \(Self.span(max(0, scene.machine.wall - $0))) ago" } ?? ""
        return Diagnosis(
            .removedFromPool, .fail, "a node of the pool says that this machine was removed\(since)",
            try: "ask whoever keeps the pool why")
    }

    // MARK: processor and memory

    func machine() -> [Diagnosis] {
        let machine = scene.machine
        var out = [
            machine.computesRight
                ? Diagnosis(.instructionSets, .ok, "all instruction sets give the same bits")
                : Diagnosis(
                    .instructionSets, .fail, "instruction sets of this processor give different bits",
                    try: "test processor and memory"),
            machine.mayBeIdle
                ? Diagnosis(.noIdlePriority, .ok, "arithmetic gives way to other programs")
                : Diagnosis(
                    .noIdlePriority, .warn, "the system does not let threads give way (SCHED_IDLE)",
                    try: "allow sched_setscheduler"),
        ]
        let limits = (try? scene.limits.get()) ?? OwnerLimits()
        if let threads = limits.threads, threads > machine.processors {
            out.append(
                Diagnosis(
                    .threadsBeyond, .warn, "\(threads) threads for \(machine.processors) processors",
                    try: change(.threads, "\(machine.processors)")))
        } else {
            out.append(Diagnosis(.threadsBeyond, .ok, "\(machine.processors) processors"))
        }
        let offered = scene.daemons.compactMap { $0.status?.daemon.member?.memoryMebibytes }.reduce(0, +)
        guard let memory = MachineMemory(root: machine.sensors).read().value else {
            return out + [Diagnosis(.memoryBeyond, .unknown, "the system does not say how much memory it has")]
        }
        let wanted = max(ByteCount.mebibytes(offered), limits.memory ?? ByteCount(0))
        out.append(
            wanted > memory
                ? Diagnosis(
                    .memoryBeyond, .fail,
                    "\(wanted) are to be offered to jobs, and this machine has \(memory)",
                    try: change(.memory, "\((memory.bytes / 2) >> 20)"))
                : Diagnosis(.memoryBeyond, .ok, "\(memory) of memory, \(ByteCount.mebibytes(offered)) offered"))
        if let given = limits.memory ?? (offered > 0 ? .mebibytes(offered) : nil), given < .mebibytes(64) {
            out.append(Diagnosis(.memoryLittle, .warn, "only \(given) are offered", try: change(.memory, "MIB")))
        }
        if let group = MachineMemory(root: machine.sensors).groupLimit {
            out.append(
                Diagnosis(
                    .memoryGroup, .warn, "a control group allows \(ByteCount(group))",
                    try: "raise its limit, if it is not meant so"))
        }
        return out
    }

    // MARK: the disk

    func disk() -> [Diagnosis] {
        var place = scene.folder
        while !FileManager.default.fileExists(atPath: place), place.contains("/"), place.count > 1 {
            place = String(place[..<(place.lastIndex(of: "/") ?? place.startIndex)])
            if place.isEmpty { place = "/" }
        }
        var out: [Diagnosis] = []
        if let seconds = scene.machine.diskSeconds ?? measureDisk(place) {
            out.append(Diagnosis(.folderNotWritable, .ok, "\(place) can be written"))
            out.append(
                seconds > 0.25
                    ? Diagnosis(
                        .diskSlow, .warn, "a few bytes took \(fixed(seconds, 2)) s to be on the disk",
                        try: "another disk, with --data")
                    : Diagnosis(.diskSlow, .ok, "the disk takes \(fixed(seconds * 1000, 1)) ms to write for certain"))
        } else {
            out.append(
                Diagnosis(.folderNotWritable, .fail, "\(place) cannot be written", try: "check its owner, or --data"))
        }
        if let free = scene.machine.freeBytes(place) {
            let state: Diagnosis.State = free < 64 << 20 ? .fail : free < 1 << 30 ? .warn : .ok
            out.append(
                Diagnosis(
                    .diskFull, state, "\(ByteCount(free)) are free in \(place)",
                    try: state == .ok ? nil : "free some space"))
        } else {
            out.append(Diagnosis(.diskFull, .unknown, "the system does not say what is free in \(place)"))
        }
        if let damage = UsageFile(folder: scene.folder).damage {
            out.append(Diagnosis(.usageDamaged, .warn, damage, try: change(.monthly, "GIB")))
        } else {
            out.append(Diagnosis(.usageDamaged, .ok, "what was sent this month is known"))
        }
        return out + logs()
    }
    private func measureDisk(_ folder: String) -> Double? {
        let path = folder + "/.doctor-\(getpid())"
        let began = Date()
        guard (try? writeFile(path, Array("look".utf8))) != nil else { return nil }
        unlink(path)
        return Date().timeIntervalSince(began)
    }
    private func logs() -> [Diagnosis] {
        var damaged: [String] = []
        do throws(NodeError) {
            for book in try WorkBook.all(in: scene.folder, parse: scene.parse)
            where book.fault != nil { damaged.append(book.log) }
        } catch { return [Diagnosis(.logDamaged, .unknown, error.description)] }
        guard !damaged.isEmpty else { return [Diagnosis(.logDamaged, .ok, "every log in the folder holds")] }
        return damaged.map { Diagnosis(.logDamaged, .fail, "\($0) is damaged", try: "atoll verify \($0)") }
    }

    // MARK: limits

    /// How a limit is given another value. A command wins over the owner's file, and is understood while no daemon runs, too.
    private func change(_ key: LimitKey, _ value: String) -> String { "atoll limits set \(key.rawValue) \(value)" }

    func limits() -> [Diagnosis] {
        let limits: OwnerLimits
        switch scene.limits {
        case .failure(let error): return [Diagnosis(.peerFile, .fail, error.description, try: "mend that line")]
        case .success(let given): limits = given
        }
        var out = [Diagnosis(.peerFile, .ok, "the owner's limits are read")]
        let readings = MachineSensors(root: scene.machine.sensors).read(
            for: limits, moment: localMoment(secondsSince1970: Int(scene.machine.wall)),
            monthBytes: .value(ByteCount(0)),
            at: .zero)
        func look<Value>(
            _ code: DiagnosisCode, _ isGiven: Bool, _ reading: Reading<Value>, _ what: String, _ key: LimitKey
        ) {
            guard isGiven else { return out.append(Diagnosis(code, .ok, "\(key.rawValue) asks for no sensor")) }
            out.append(
                reading.why.map {
                    Diagnosis(code, .warn, "\(what) cannot be seen: \($0)", try: "atoll help \(code.rawValue)")
                }
                    ?? Diagnosis(code, .ok, "\(what) can be seen"))
        }
        look(.batteryUnseen, limits.onBattery == .pause, readings.onBattery, "the battery", .onBattery)
        look(
            .userUnseen, limits.userActive == .pause, readings.userIdle, "whether somebody uses this machine",
            .userActive)
        look(.loadUnseen, limits.othersLoad != nil, readings.othersLoad, "the load of other programs", .othersLoad)
        look(.heatUnseen, limits.temperature != nil, readings.temperature, "the temperature", .temperature)
        look(
            .meteredUnseen, limits.metered == .pause, readings.isMetered, "whether the connection is metered", .metered)
        if readings.isMetered.value == true {
            out.append(
                Diagnosis(.meteredNow, .warn, "this connection is metered: nothing is sent", try: "another network"))
        }
        if let limit = limits.temperature, let now = readings.temperature.value {
            out.append(
                now > limit
                    ? Diagnosis(
                        .heat, .warn, "\(fixed(now, 0)) °C, and \(fixed(limit, 0)) are allowed",
                        try: "clean the fans, or fewer threads")
                    : Diagnosis(.heat, .ok, "\(fixed(now, 0)) of \(fixed(limit, 0)) °C"))
        }
        let minutes = (0..<7 * 1440).count {
            limits.hours.isOpen(LocalMoment(weekday: $0 / 1440, minute: $0 % 1440, month: 0))
        }
        out.append(
            minutes < 60
                ? Diagnosis(.neverOpen, .warn, "hours allow \(minutes) minutes a week", try: change(.hours, "always"))
                : Diagnosis(.neverOpen, .ok, "hours allow \(minutes / 60) h a week"))
        return out + biting(limits)
    }
    private func biting(_ limits: OwnerLimits) -> [Diagnosis] {
        var out: [Diagnosis] = []
        for status in scene.daemons.compactMap(\.status) {
            let name = status.daemon.member?.name ?? "process \(status.process)"
            guard let said = status.limits else { continue }
            for reason in said.reasons {
                out.append(
                    Diagnosis(
                        .biting, .warn,
                        "\(name) does not work: \(reason.why)" + (reason.until.map { ", until \($0)" } ?? ""),
                        try: "atoll limits"))
            }
            let used = Double(said.monthSentBytes + said.monthReceivedBytes)
            if let quota = limits.monthly, used > 0.9 * Double(quota.bytes) {
                out.append(
                    Diagnosis(
                        .quotaNearly, .warn, "\(ByteCount(Int(used))) of \(quota) are used this month",
                        try: change(.monthly, "GIB")))
            }
        }
        return out
    }
}
