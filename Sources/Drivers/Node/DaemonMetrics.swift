import Daemon
import Foundation
import Lending
internal import Membership
import Record
public import Telemetry

/// What `atoll status` says, as numbers.
extension ControlService.Status {
    public var metrics: [MetricFamily] {
        let build = MetricFamily.gauge(
            "atoll_build_info", "This program, and the arithmetic that it agrees with others on.",
            [([.init("version", atollVersion), .init("numerics", Record.numerics)], 1)])
        return [build] + traffic + overlay + connections + member + coordinator + lending + ProcessFigures.now.metrics
    }

    private var traffic: [MetricFamily] {
        [
            .gauge("atoll_uptime_seconds", "Since the process began.", uptimeSeconds),
            .counter("atoll_sent_bytes", "Sent at the sockets.", Double(sentBytes)),
            .counter("atoll_received_bytes", "Received at the sockets.", Double(receivedBytes)),
        ]
    }
    private var overlay: [MetricFamily] {
        let overlay = daemon.overlay
        return [
            .gauge("atoll_overlay_joined", "Whether the pool's overlay was joined.", overlay.isJoined ? 1 : 0),
            .gauge("atoll_overlay_contacts", "Nodes that are known.", Double(overlay.contacts)),
            .gauge("atoll_reachable", "Whether others can dial this daemon.", overlay.isReachable ? 1 : 0),
            .gauge("atoll_berths", "Relays through which others reach it.", Double(overlay.berths.count)),
            .gauge("atoll_relay_berths", "Peers that are reached through it.", overlay.relay.map { Double($0.berths) }),
            .gauge("atoll_relay_circuits", "Circuits that it carries now.", overlay.relay.map { Double($0.circuits) }),
            .counter(
                "atoll_relay_carried_bytes", "Carried for others.",
                overlay.relay.map { [([], Double($0.carriedBytes))] } ?? []),
        ]
    }
    private var connections: [MetricFamily] {
        let relayed = daemon.connections.count { $0.relayedBy != nil }
        return [
            .gauge(
                "atoll_connections", "Connected peers, by path.",
                [
                    ([.init("path", "direct")], Double(daemon.connections.count - relayed)),
                    ([.init("path", "relayed")], Double(relayed)),
                ]),
            .gauge(
                "atoll_link_round_trip_seconds", "Round trip to a connected peer, by the first digits of its key.",
                daemon.connections.compactMap { connection in
                    connection.roundTripMilliseconds.map { ([.init("peer", connection.peer)], $0 / 1000) }
                }),
        ]
    }
    private var member: [MetricFamily] {
        guard let member = daemon.member else { return [] }
        let states: [DaemonStatus.Membership.State] = [.free, .working, .waiting, .paused, .leaving]
        var out: [MetricFamily] = [
            .gauge(
                "atoll_member_state", "1 for what the peer is, 0 for the rest.",
                states.map { ([.init("state", $0.rawValue)], $0 == member.state ? 1 : 0) }),
            .gauge("atoll_member_memory_bytes", "Offered to jobs.", member.memoryMebibytes * 1_048_576),
            .gauge("atoll_member_round", "The round in progress.", member.round.map(Double.init)),
            .gauge("atoll_member_step", "The inner step in progress.", member.step.map(Double.init)),
            .gauge(
                "atoll_member_units", "Units of the model that it holds.",
                member.units.flatMap { $0.count == 2 ? Double($0[1] - $0[0]) : nil }),
        ]
        if let work = member.work {
            let ended = work.microBatches
            out += [
                .gauge(
                    "atoll_member_micro_batches",
                    "Its micro-batches in this job, by outcome; a return to an earlier round moves some.",
                    [
                        ("counted", ended.counted), ("late", ended.late), ("lost", ended.lost),
                        ("superseded", ended.superseded), ("under_way", ended.underWay),
                    ].map { ([.init("outcome", $0.0)], Double($0.1)) }),
                .gauge("atoll_member_round_seconds", "The last round, from seal to seal.", work.roundSeconds),
                .gauge(
                    "atoll_member_loss_nats", "Mean loss a token of the job, as its log says.",
                    [("train", work.trainLoss), ("validation", work.validationLoss)].compactMap { split, loss in
                        loss.map { ([.init("split", split)], $0) }
                    }),
            ]
        }
        return out
    }
    private var coordinator: [MetricFamily] {
        guard let leads = daemon.coordinator else { return [] }
        return [
            .gauge("atoll_log_entries", "Entries of the job's log.", Double(leads.logLength)),
            .gauge("atoll_log_committed_entries", "Those that are agreed on.", Double(leads.logCommitted)),
            .gauge("atoll_term", "The leader's term.", Double(leads.term)),
            .gauge(
                "atoll_peer_silent_seconds", "Since a member was last heard, by name.",
                leads.peers.filter { $0.standing == "joined" }.map { ([.init("peer", $0.name)], $0.silentSeconds) }),
        ]
    }
    private var lending: [MetricFamily] {
        guard let limits else { return [] }
        let modes: [Allowance.Mode] = [.work, .hold, .drain, .away]
        func each(_ names: [String]) -> [([MetricFamily.Label], Double)] {
            LimitSense.allCases.map { ([.init("reason", $0.name)], names.contains($0.name) ? 1 : 0) }
        }
        return [
            .gauge(
                "atoll_lending_mode", "1 for what its owner lets it do now, 0 for the rest.",
                modes.map { ([.init("mode", $0.rawValue)], $0 == limits.mode ? 1 : 0) }),
            .gauge(
                "atoll_suspended", "Whether this keeps it from working, by the limit's key.",
                each(limits.reasons.map(\.limit))),
            .gauge(
                "atoll_sensor_unseen", "Whether this limit's sensor says nothing.", each(limits.unseen.map(\.limit))),
            .gauge(
                "atoll_cpu_share_ratio", "Share of the time in which its threads may compute.", limits.cpuPercent / 100),
            .gauge(
                "atoll_month_sent_bytes", "Sent this month, the local network apart.", Double(limits.monthSentBytes)),
            .gauge(
                "atoll_month_received_bytes", "Received this month, the local network apart.",
                Double(limits.monthReceivedBytes)),
        ]
    }
}

/// What the kernel says of this process, under the names that Prometheus' own clients give them.
struct ProcessFigures {
    var cpuSeconds: Double?
    var residentBytes: Double?
    var threads: Double?
    var descriptors: Double?

    static var now: ProcessFigures {
        var out = ProcessFigures()
        var usage = rusage()
        if getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage) == 0 {
            func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }
            out.cpuSeconds = seconds(usage.ru_utime) + seconds(usage.ru_stime)
        }
        // Pages: the second number is what is resident (proc_pid_statm(5)).
        if let bytes = try? readFile("/proc/self/statm", limit: 4096) {
            let pages = String(decoding: bytes, as: UTF8.self).split(separator: " ").dropFirst().first.flatMap {
                Double($0)
            }
            out.residentBytes = pages.map { $0 * Double(sysconf(Int32(_SC_PAGESIZE))) }
        }
        out.threads = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/task")).map { Double($0.count) }
        out.descriptors = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd")).map {
            Double($0.count)
        }
        return out
    }
    var metrics: [MetricFamily] {
        [
            .counter("process_cpu_seconds", "Processor time, in all.", cpuSeconds.map { [([], $0)] } ?? []),
            .gauge("process_resident_memory_bytes", "Memory that is resident.", residentBytes),
            .gauge("process_threads", "Threads.", threads),
            .gauge("process_open_fds", "Descriptors that are open.", descriptors),
        ]
    }
}
