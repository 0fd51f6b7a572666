import ArgumentParser
import Digests
import Experiments
import Files
import Foundation
import Node
import Planning
import Primitives
import Record
import Topologies

/// One point, ready to be computed: nothing of it is read from disk any more.
struct SweepPoint: Sendable {
    /// What is known before: the identity, the settings, where it came from.
    var result: SweepResult
    var topology: Topology
    /// As the launcher signs it in a replay; with its text's path left out in a plan.
    var job: JobManifest
    var content: JobContent?
    var task: SweepTask
}

/// What a point does, apart from what it does it on.
struct SweepTask: Sendable {
    var run: SweepSpec.Run
    var iterations = Planner.defaultIterations
    var excluding: [String] = []
    var isReal = false
    var plan: Plan?

    /// For the point's identity.
    var text: String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        let given = plan.flatMap { try? encoder.encode($0) }.map { String(decoding: $0, as: UTF8.self) } ?? "none"
        return
            "run \(run.rawValue)\niterations \(iterations)\nexclude \(excluding.sorted())\nreal \(isReal)\nplan \(given)\n"
    }
}

/// An experiment's file with all that it names, read once and checked before anything is computed.
final class SweepInputs {
    let spec: SweepSpec
    let bytes: [UInt8]
    /// Where the file lies: paths in it are relative to that.
    let folder: String
    private var files: [String: [UInt8]] = [:]
    private var topologies: [String: (topology: Topology, digest: String)] = [:]
    private var jobs: [String: (input: JobInput, content: JobContent?)] = [:]

    init(_ path: String) throws {
        bytes = try readFile(path, limit: 1 << 20)
        folder = (path as NSString).deletingLastPathComponent
        do throws(FileProblem) { spec = try SweepSpec(parsing: bytes, file: path) } catch {
            throw NodeError.badInput("\(error)")
        }
    }

    var count: Int { spec.combinations.count * spec.seeds.count }

    /// A path in the experiment's file.
    func path(_ name: String) -> String { name.hasPrefix("/") || folder.isEmpty ? name : folder + "/" + name }
    func file(_ name: String) throws -> [UInt8] {
        if let known = files[name] { return known }
        let bytes = try readFile(path(name), limit: ImportedTopology.maximumBytes)
        files[name] = bytes
        return bytes
    }

    /// - Parameter index: combinations one after the other, each with all seeds.
    func point(_ index: Int) throws -> SweepPoint {
        let (place, seed) = (index / spec.seeds.count, spec.seeds[index % spec.seeds.count])
        let combination = spec.combinations[place]
        var task = SweepTask(run: spec.run)
        task.iterations = combination.integer("planner.iterations") ?? task.iterations
        task.excluding = combination.words("planner.exclude")
        task.isReal = combination.boolean("replay.real") ?? false
        var (topology, digest) = try topology(combination)
        for name in task.excluding where topology.index(of: name) == nil {
            throw blamed(combination, "planner.exclude", "no host \(name)", "names of hosts of \(topology.name)")
        }
        topology = topology.retimed(
            scale: combination.number("replay.trace_scale") ?? 1, offset: combination.number("replay.trace_offset") ?? 0
        )
        if combination.boolean("replay.faults") == false { topology.faults = [] }
        let (input, content) = try job(combination, isReal: task.isReal)
        var job = input.manifest
        job.data = .path("text")
        if spec.run == .replay { job = try input.simulated(content ?? input.blank) }
        if let given = combination.last("replay.plan")?.text {
            task.plan = try PlanInput(file: path(given)).plan(topology, job)
        }
        let known = content == nil && spec.run == .replay ? "blank" : ""
        let used = (topology: Self.digest(topology.text), job: Self.digest(job.canonicalText + known))
        let version = Atoll.configuration.version
        let identity =
            "atoll sweep point 1\n\(version)\n\(Record.numerics)\n\(task.text)seed \(seed)\n\(used.topology)\n\(used.job)\n"
        let jobBytes = try file(combination.file("job"))
        return SweepPoint(
            result: SweepResult(
                point: Self.digest(identity), combination: place, sweep: spec.name, run: spec.run.rawValue,
                version: version,
                settings: spec.varied.map { SweepResult.Setting(key: $0, value: combination.last($0)?.text ?? "") },
                seed: seed,
                topology: SweepResult.Source(file: combination.file("topology"), sha256: digest, used: used.topology),
                job: SweepResult.Source(
                    file: combination.file("job"), sha256: sha256(jobBytes).hex, used: used.job)),
            topology: topology, job: job, content: content ?? (spec.run == .replay ? input.blank : nil), task: task)
    }
    private static func digest(_ text: String) -> String { sha256(Array(text.utf8)).hex }

    private func blamed(
        _ combination: SweepSpec.Combination, _ key: String, _ found: String, _ allowed: String
    ) -> NodeError {
        let problem = FileProblem(.unknownName, file: spec.file, key: key, found: found, allowed: allowed)
        return .badInput("\(combination.placed(problem, key))")
    }

    // MARK: files with changes

    private func topology(_ combination: SweepSpec.Combination) throws -> (Topology, String) {
        let name = combination.file("topology")
        let key = name + "\n" + combination.changes(of: "topology")
        if let known = topologies[key] { return (known.topology, known.digest) }
        let original = try file(name)
        var topology: Topology
        do throws(FileProblem) {
            let bytes = try combination.edited("topology", original, file: path(name))
            do throws(FileProblem) {
                topology = try ImportedTopology(reading: bytes, file: path(name)).topology
                for change in combination.words("what_if") { topology = try WhatIf(change).applied(to: topology) }
            } catch { throw combination.blamed(error, "topology") }
        } catch { throw NodeError.badInput("\(error)") }
        topologies[key] = (topology, sha256(original).hex)
        return (topology, sha256(original).hex)
    }

    private func job(_ combination: SweepSpec.Combination, isReal: Bool) throws -> (JobInput, JobContent?) {
        let name = combination.file("job")
        let steps = combination.integer("replay.steps")
        let key = "\(name)\n\(combination.changes(of: "job"))\n\(steps ?? 0) \(isReal)"
        if let known = jobs[key] { return known }
        let original = try file(name)
        var input: JobInput
        let bytes: [UInt8]
        do throws(FileProblem) { bytes = try combination.edited("job", original, file: path(name)) } catch {
            throw NodeError.badInput("\(error)")
        }
        do { input = try JobInput(bytes: bytes, file: path(name), data: nil, steps: steps, seed: nil) } catch {
            throw blamed(error, combination, bytes, name)
        }
        var content: JobContent?
        if spec.run == .replay { content = isReal ? try input.content() : try? input.content() }
        jobs[key] = (input, content)
        return (input, content)
    }
    /// What is wrong with a job, at the change that is to blame.
    private func blamed(
        _ error: any Error, _ combination: SweepSpec.Combination, _ bytes: [UInt8], _ name: String
    ) -> any Error {
        guard !combination.changes(of: "job").isEmpty else { return error }
        do throws(ManifestError) { _ = try JobManifest(parsing: bytes, file: path(name)) } catch {
            if error.key != "model.from" { return NodeError.badInput("\(combination.blamed(error, "job"))") }
        }
        return error
    }
    /// The text of a point's job, where it is at hand.
    func texts(_ combination: SweepSpec.Combination) throws -> [(name: String, path: String)] {
        let (input, content) = try job(combination, isReal: combination.boolean("replay.real") ?? false)
        return content == nil ? [] : input.dataFiles.filter { !isFolder($0.path) }
    }
}
