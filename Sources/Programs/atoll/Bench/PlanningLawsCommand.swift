import ArgumentParser
import Benchmarks
import Node
import Planning
import Primitives

/// `atoll bench planning-laws`: what a change of a pool must not do to the cost of its plan, on random pools; each violation with the
/// command that shows it again.
struct BenchPlanningLaws: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "planning-laws", abstract: "Changes that must not make a plan dearer, on random pools.")
    @Option(help: "Random pools.") var instances = 60
    @Option(help: "Seed of the first; the next have the next.") var seed: UInt64 = 1
    @Option(help: "Least and most peers of a pool.") var peers = "2-64"
    @Option(help: "Laws by commas: \(PlanningLaw.allCases.map(\.rawValue).joined(separator: ", ")).") var law: String?
    @Option(help: "How many candidates a search may look at.") var iterations = Planner.defaultIterations

    func run() throws {
        guard (1...1_000_000).contains(instances) else {
            throw NodeError.badInput("--instances \(instances): 1 to 1 000 000")
        }
        guard (1...100_000_000).contains(iterations) else {
            throw NodeError.badInput("--iterations \(iterations): 1 to 100 000 000")
        }
        let ends = peers.split(separator: "-", omittingEmptySubsequences: false).map { Int($0) ?? 0 }
        guard ends.count == 2, ends[0] >= 2, ends[0] <= ends[1], ends[1] <= 64 else {
            throw NodeError.badInput("--peers \(peers): two numbers from 2 to 64, such as 2-12")
        }
        let chosen = try law?.split(separator: ",").map { name in
            guard let law = PlanningLaw(rawValue: String(name)) else {
                throw NodeError.badInput(
                    "--law \(name): \(PlanningLaw.allCases.map(\.rawValue).joined(separator: ", "))")
            }
            return law
        }
        let laws = PlanningLaws(
            peers: ends[0]...ends[1], laws: chosen ?? PlanningLaw.allCases, iterations: iterations)
        let progress = ProgressLine()
        var (planned, checks, broken) = (0, 0, [PlanningLaw: Int]())
        // A few at a time, so that what is found is told as it is found, in order.
        for first in stride(from: 0, to: instances, by: 8) {
            progress.show { "\(first) of \(instances) pools, \(broken.values.reduce(0, +)) violations" }
            let seeds = (first..<min(instances, first + 8)).map { seed &+ UInt64($0) }
            for outcome in laws.check(seeds: seeds, parallel: .cores) {
                planned += outcome.isPlanned ? 1 : 0
                checks += outcome.checks
                for violation in outcome.violations {
                    broken[violation.law, default: 0] += 1
                    progress.end()
                    print(line(violation))
                }
            }
        }
        progress.end()
        let list = PlanningLaw.allCases.compactMap { law in broken[law].map { "\(law.rawValue) \($0)" } }
        print(
            "\(instances) pools, \(planned) can be planned, \(checks) checks: \(broken.values.reduce(0, +)) violations of "
                + "more than \(fixed(100 * PlanningLaws.tolerance, 1)) %"
                + (list.isEmpty ? "" : " (" + list.joined(separator: ", ") + ")"))
    }

    private func line(_ violation: PlanningLaws.Violation) -> String {
        let more =
            violation.excess.isFinite ? "\(fixed(100 * violation.excess, 2)) % dearer than need be" : "no plan at all"
        let usual = iterations == Planner.defaultIterations ? "" : " --iterations \(iterations)"
        return
            "\(violation.law.rawValue), \(violation.peers) peers: \(more): atoll bench planning-laws --peers \(peers) "
            + "--instances 1 --seed \(violation.seed) --law \(violation.law.rawValue)\(usual)"
    }
}
