import Foundation
import Node
import Primitives
import Simulation

/// `atoll replay --study NAME`: one question about survival, asked of many small worlds; docs/STORM.md says what each is.
struct StudyReplay {
    enum Name: String, CaseIterable { case blackouts, kills, writes, churn, electors, traffic, sessions }
    let name: Name
    /// Blackouts, kills; hours of churn; minutes of what befalls electors; rounds of traffic; weeks of sessions; ignored by writes.
    let count: Int?
    let seed: UInt64
    let json: Bool

    func run() throws {
        let report: Report =
            switch name {
            case .blackouts: blackouts()
            case .kills: kills()
            case .writes: writes()
            case .churn: churn()
            case .electors: electors()
            case .traffic: traffic()
            case .sessions: sessions()
            }
        if json {
            let data = try? JSONSerialization.data(
                withJSONObject: report.object, options: [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes])
            print(String(decoding: data ?? Data(), as: UTF8.self))
        } else {
            print(report.text)
        }
        guard report.failures == 0 else {
            throw NodeError.failed("\(report.failures) of the study's worlds were not as they must be")
        }
    }

    private struct Report {
        var text: String
        var object: [String: Any]
        var failures: Int
    }

    private func blackouts() -> Report {
        let study = BlackoutStudy(moments: count ?? 20, seed: seed) {
            let what = $0.violation ?? ($0.isSame ? "the same weights" : "other weights")
            complain(
                "off at \(fixed($0.moment, 2)) s for \(fixed($0.length, 1)) s: \($0.rounds) rounds were sealed, "
                    + "\($0.again) done again, \(what)")
        }
        let all = study.outcomes
        let (same, exact) = (all.count(where: \.isGood), all.count(where: \.isExact))
        let most = all.map(\.again).max() ?? 0
        let rounds = all.map {
            [
                "moment": $0.moment, "length": $0.length, "rounds": $0.rounds, "again": $0.again, "exact": $0.isExact,
                "same": $0.isSame,
            ] as [String: Any]
        }
        return Report(
            text:
                "\(all.count) blackouts: \(same) ended with the weights of the undisturbed job, \(exact) went on exactly; at most \(most) "
                + "rounds were done again, \(all.reduce(0) { $0 + $1.again }) in all"
                + (study.problem.map { "; \($0)" } ?? ""),
            object: ["study": name.rawValue, "seed": seed, "worlds": rounds, "again_most": most],
            failures: all.count - same + (study.problem == nil ? 0 : 1))
    }

    private func kills() -> Report {
        let study = KillStudy(kills: count ?? 20, seed: seed) {
            complain(
                "\($0.host) \($0.isSilent ? "without power" : "killed") at \(fixed($0.moment, 2)) s: the next round is "
                    + "sealed after \(fixed($0.wait, 2)) s\($0.violation.map { "; \($0)" } ?? "")")
        }
        func waits(_ isSilent: Bool) -> [Double] {
            study.outcomes.filter { $0.isSilent == isSilent }.map(\.wait).sorted()
        }
        func line(_ what: String, _ waits: [Double]) -> String {
            guard let most = waits.last else { return "" }
            let median = fixed(waits[waits.count / 2], 2)
            return "\n\(what): median \(median) s, at most \(fixed(most, 2)) s of \(waits.count)"
        }
        let worlds = study.outcomes.map {
            ["moment": $0.moment, "host": $0.host, "silent": $0.isSilent, "wait": $0.wait] as [String: Any]
        }
        return Report(
            text:
                "a round takes \(fixed(study.median, 2)) s; 1.5 of them and 3 s: \(fixed(1.5 * study.median + 3, 2)) s"
                + line("killed", waits(false)) + line("without power", waits(true)),
            object: ["study": name.rawValue, "seed": seed, "worlds": worlds, "round_seconds": study.median],
            failures: study.outcomes.count { $0.violation != nil })
    }

    private func writes() -> Report {
        var tally: [String: (worlds: Int, wrong: Int, silent: Int)] = [:]
        let study = WriteStudy(seed: seed) {
            let what = "\($0.write.kind), \($0.how.rawValue)"
            tally[what, default: (0, 0, 0)].worlds += 1
            if let why = $0.violation {
                tally[what]!.wrong += 1
                complain("write \($0.write.number) of \($0.write.host) (\(what)): \(why)")
            }
            if !$0.isTold {
                tally[what]!.silent += 1
                complain("write \($0.write.number) of \($0.write.host) (\(what)): nobody was told")
            }
        }
        let rows = tally.keys.sorted().map { what in
            "\(what): \(tally[what]!.worlds) worlds, \(tally[what]!.wrong) ended wrongly, "
                + "in \(tally[what]!.silent) nobody was told"
        }
        let bad = study.outcomes.count { $0.violation != nil || !$0.isTold }
        return Report(
            text: "\(study.writes) writes, \(study.outcomes.count) worlds\(study.problem.map { "; \($0)" } ?? "")\n"
                + rows.joined(separator: "\n"),
            object: [
                "study": name.rawValue, "seed": seed, "writes": study.writes, "worlds": study.outcomes.count,
                "kinds": tally.mapValues { ["worlds": $0.worlds, "wrong": $0.wrong, "silent": $0.silent] },
            ], failures: bad + (study.problem == nil ? 0 : 1))
    }

    private func electors() -> Report {
        let minutes = count ?? 10
        func line(_ one: ElectorStudy.Outcome) -> String {
            "\(one.what): \(one.changes) \(one.changes == 1 ? "change" : "changes") of leader, at most \(fixed(one.pause, 1)) s between two "
                + "seals, \(one.lost) micro-batches lost or late, \(one.isSame ? "the same weights" : "other weights")"
                + (one.violation.map { "; \($0)" } ?? "")
        }
        let study = ElectorStudy(minutes: minutes, seed: seed) { complain(line($0)) }
        let worlds = study.outcomes.map {
            [
                "what": $0.what, "changes": $0.changes, "pause": $0.pause, "lost": $0.lost, "same": $0.isSame,
                "good": $0.isGood,
            ] as [String: Any]
        }
        return Report(
            text: (study.outcomes.map(line) + (study.problem.map { [$0] } ?? [])).joined(separator: "\n"),
            object: ["study": name.rawValue, "seed": seed, "minutes": minutes, "worlds": worlds],
            failures: study.outcomes.count { !$0.isGood } + (study.problem == nil ? 0 : 1))
    }

    private func sessions() -> Report {
        func line(_ one: SessionStudy.Outcome) -> String {
            "\(one.electors) electors for \(fixed(one.days, 0)) days: \(one.departures) left, \(one.replaced) seats went to others, \(one.elections) elections, "
                + "\(fixed(one.without, 0)) s without a leader; a majority was lost \(one.lost) times, where \(fixed(one.days / one.computedDays, 2)) are computed "
                + "(one in \(fixed(one.computedDays, 1)) days); \(one.refounded) times all \(one.entries) entries went on in a new era, \(one.returned) times somebody was back before"
                + (one.problem.map { "; \($0)" } ?? "")
        }
        let study = SessionStudy(days: 7 * Double(count ?? 1), seed: seed) { complain(line($0)) }
        let rows = study.outcomes.map {
            [
                "electors": $0.electors, "days": $0.days, "departures": $0.departures, "replaced": $0.replaced,
                "lost": $0.lost,
                "refounded": $0.refounded, "returned": $0.returned, "computed_days": $0.computedDays,
                "seconds_without": $0.without, "elections": $0.elections,
            ] as [String: Any]
        }
        return Report(
            text: study.outcomes.map(line).joined(separator: "\n"),
            object: ["study": name.rawValue, "seed": seed, "weeks": count ?? 1, "outcomes": rows],
            failures: study.outcomes.count { !$0.isGood })
    }

    private func traffic() -> Report {
        let study = TrafficStudy(pipelines: 16, layers: 30, electors: 3, rounds: count ?? 5, seed: seed)
        return Report(
            text:
                "\(study.members) pipelines, \(study.units) units, \(study.rounds) rounds: the log grows by "
                + "\(fixed(study.logBytesPerRoundAndMember, 0)) bytes a round and member; commands, reports, entries and votes are "
                + "\(fixed(100 * study.controlShare, 2)) % of \(ByteCount(study.allBytes))"
                + (study.problem.map { "; \($0)" } ?? ""),
            object: [
                "study": name.rawValue, "seed": seed, "members": study.members, "units": study.units,
                "rounds": study.rounds, "log_bytes": study.logBytes, "control_bytes": study.controlBytes,
                "bytes": study.allBytes,
            ], failures: study.problem == nil ? 0 : 1)
    }

    private func churn() -> Report {
        let hours = Double(count ?? 2)
        let study = ChurnStudy(hours: hours, seed: seed) {
            complain(
                "\($0.rounds) rounds in \(fixed($0.seconds, 0)) virtual seconds\($0.violation.map { "; \($0)" } ?? "")")
        }
        let (calm, churned) = (study.calm, study.churned)
        return Report(
            text:
                "ten peers, three of them replaced every ten minutes (\(study.replaced) in all): "
                + "\(fixed(churned.seconds, 0)) s instead of \(fixed(calm.seconds, 0)) s, "
                + "\(fixed(100 * study.kept, 1)) % of the throughput; of \(churned.granted) micro-batches granted "
                + "\(churned.counted) counted",
            object: [
                "study": name.rawValue, "seed": seed, "hours": hours, "replaced": study.replaced,
                "calm_seconds": calm.seconds, "churned_seconds": churned.seconds, "kept": study.kept,
                "granted": churned.granted, "counted": churned.counted,
            ], failures: [calm, churned].count { $0.violation != nil })
    }
}
