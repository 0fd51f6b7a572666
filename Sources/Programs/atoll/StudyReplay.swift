import Foundation
import Node
import Primitives
import Simulation

/// `atoll replay --study NAME`: one question about survival, asked of many small worlds; docs/STORM.md says what each is.
struct StudyReplay {
    enum Name: String, CaseIterable { case blackouts, kills, writes, churn }
    let name: Name
    /// Blackouts, kills; hours of churn; ignored by writes.
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
