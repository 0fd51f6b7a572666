import Foundation
import Node
import Primitives
import Simulation

/// `atoll replay --storm N`: so many seeded worlds, each with troubles of its own, watched by checkers.
struct StormReplay {
    /// How many carry the record of a storm's jobs.
    enum Electors: Equatable {
        case auto, count(Int)
        var word: String {
            switch self {
            case .auto: "auto"
            case .count(let count): "\(count)"
            }
        }
    }
    let worlds: Int
    let seed: UInt64
    let electors: Electors?
    /// Launcher and peers are behind home routers.
    let atHome: Bool
    /// Places of troubles that strike; nil: all of them.
    let keep: [Int]?
    /// Where the play of the last world goes.
    let transcript: String?
    let json: Bool

    private struct Failure {
        var seed: UInt64
        var what: String
        var kept: [Int]
        var troubles: [String]
        var world: String
        var electors: Electors?
        var atHome: Bool
        var command: String {
            "atoll replay --storm 1 --seed \(seed)\(electors.map { " --electors \($0.word)" } ?? "")\(atHome ? " --homes" : "") --keep \(kept.isEmpty ? "none" : kept.map(String.init).joined(separator: ","))"
        }
    }
    /// What a storm came to.
    private struct Tally {
        var worlds = 0
        var rounds = 0
        var launches = 0
        var virtualSeconds = 0.0
        var struck: [String: Int] = [:]
        var failures: [Failure] = []

        mutating func add(_ run: StormRun) {
            worlds += 1
            rounds += run.rounds
            launches += run.launches
            virtualSeconds += run.virtualSeconds
            for (word, count) in run.struck { struck[word, default: 0] += count }
        }
    }
    /// More failures than these are not shrunk: something is wrong with all of them.
    private static let failuresMax = 5

    func run() throws {
        var tally = Tally()
        let began = Date()
        var told = began
        for number in 0..<worlds where tally.failures.count < Self.failuresMax {
            var script = script(seed &+ UInt64(number))
            if let keep {
                guard keep.allSatisfy(script.troubles.indices.contains) else {
                    throw NodeError.badInput(
                        "--keep: seed \(script.seed) has troubles 0 to \(script.troubles.count - 1), or none")
                }
                script = script.keeping(keep)
            }
            let run = StormRun(script, isPlay: transcript != nil)
            tally.add(run)
            if let transcript { try writeFile(transcript, Array(run.transcript.utf8)) }
            if let what = run.violation {
                let failure = shrunk(script, what)
                tally.failures.append(failure)
                if !json { print(text(failure), terminator: "") }
            }
            if Date().timeIntervalSince(told) >= 2 {
                told = Date()
                complain("\(tally.worlds) of \(worlds) worlds, \(tally.failures.count) failed")
            }
        }
        print(json ? object(tally) : text(tally, seconds: Date().timeIntervalSince(began)), terminator: "")
        guard tally.failures.isEmpty else {
            throw NodeError.failed("\(tally.failures.count) of \(tally.worlds) worlds were not as they must be")
        }
    }

    private func script(_ seed: UInt64) -> StormScript {
        let script =
            switch electors {
            case nil: StormScript(seed: seed)
            case .auto: StormScript(seed: seed, electors: nil)
            case .count(let count): StormScript(seed: seed, electors: count)
            }
        return atHome ? script.atHome() : script
    }
    private func shrunk(_ script: StormScript, _ what: String) -> Failure {
        let all = self.script(script.seed).troubles
        let places = keep?.filter { all.indices.contains($0) } ?? Array(all.indices)
        let kept = StormRun.shrink(script) { complain("seed \(script.seed): \($0) troubles suffice") }
        let fewer = script.keeping(kept)
        return Failure(
            seed: script.seed, what: kept.count < script.troubles.count ? StormRun(fewer).violation ?? what : what,
            kept: kept.map { places[$0] }, troubles: fewer.troubles.map(\.description), world: script.summary,
            electors: electors, atHome: atHome)
    }

    private func text(_ failure: Failure) -> String {
        var out = "seed \(failure.seed): \(failure.what)\n  \(failure.world)\n"
        for trouble in failure.troubles { out += "  \(trouble)\n" }
        return out + "  again: \(failure.command)\n"
    }
    private func text(_ tally: Tally, seconds: Double) -> String {
        let struck = tally.struck.sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)" }.joined(separator: ", ")
        return
            "\(tally.worlds) worlds, \(tally.failures.count) failed; \(fixed(tally.virtualSeconds / 3600, 1)) virtual hours in "
            + "\(fixed(seconds, 1)) s, \(tally.rounds) rounds, \(tally.launches) launches\nstruck: \(struck)\n"
    }
    private func object(_ tally: Tally) -> String {
        let object: [String: Any] = [
            "worlds": tally.worlds, "seed": seed, "rounds": tally.rounds, "launches": tally.launches,
            "virtual_seconds": tally.virtualSeconds, "struck": tally.struck,
            "failures": tally.failures.map {
                [
                    "seed": $0.seed, "what": $0.what, "world": $0.world, "troubles": $0.troubles, "keep": $0.kept,
                    "command": $0.command,
                ] as [String: Any]
            },
        ]
        let data = try? JSONSerialization.data(
            withJSONObject: object, options: [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes])
        return String(decoding: data ?? Data(), as: UTF8.self) + "\n"
    }
}
