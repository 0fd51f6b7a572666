import CPU
import Compute
import Foundation
import Kernels
import Primitives

/// Device steps in another process: a GPU's, or anything that speaks the protocol of `docs/WORKER.md`.
///
/// One request is in flight at a time, and has a deadline. A worker that dies, is late, or answers what cannot be, is ended; every
/// call is then refused until the next ``configure(_:)`` starts another. So a broken device costs at most the round that it
/// was in: whoever holds the stage begins it anew.
package final class WorkerEngine: DeviceEngine {
    package static let protocolVersion = 1

    private let start: () throws(Refusal) -> WorkerLink
    private let threads: Int
    /// Where gradients are exchanged every step: weights and moments as all peers have them to the bit. The worker's weights are a copy.
    private var host: CPUEngine?
    /// Then too: sums of complete virtual pipelines, and the one that the worker sums.
    private var shares: [(node: Int, sum: FloatBuffer)] = []
    private var open: Int?
    private var link: WorkerLink?
    private var arena: Arena?
    private var places = Places()
    private var stage: StageConfiguration?
    private var layout: StageLayout?
    private var sequence = 0
    /// Counts what has changed the worker's state: a request names the state it is meant for.
    private var version = 0
    /// FLOP/s, the slowest seen of real work: what deadlines are measured by.
    private var slowest: Double?
    private var ended = "no worker has been started"
    package private(set) var idle = BufferPool(count: 0)
    /// What the worker says it is: "cuda:0 NVIDIA H100, torch 2.11".
    package private(set) var device = ""

    /// Of the device's own, where it has any.
    package private(set) var memory: ByteCount?

    /// What is assumed of a device before it has done anything.
    private static let leastSpeed = 2e9
    /// How many seconds a worker may take: what is added to ten times the expected; and to start, or to take a stage.
    private let patience, startPatience: Double

    package init(
        patience: Double = 30, startPatience: Double = 180, threads: Int = 1,
        start: @escaping () throws(Refusal) -> WorkerLink
    ) {
        self.start = start
        self.threads = threads
        self.patience = patience
        self.startPatience = startPatience
    }
    deinit { link?.end() }

    package var isExact: Bool { false }

    // MARK: the stage

    package func configure(_ configuration: StageConfiguration) throws(Refusal) {
        stage = nil
        layout = nil
        host = nil
        (open, shares) = (nil, [])
        if link == nil { try begin() }
        try call("load", WorkerMessages.stage(configuration), seconds: startPatience)
        let layout = StageLayout(shape: configuration.model, units: configuration.units)
        places = Places(configuration, layout)
        if arena == nil || arena!.bytes < places.bytes {
            guard let fresh = Arena(bytes: places.bytes) else {
                throw Refusal("no \(places.bytes) bytes of shared memory for the worker")
            }
            try call("arena", ["bytes": fresh.bytes], seconds: patience, descriptor: fresh.descriptor)
            arena = fresh
        }
        stage = configuration
        self.layout = layout
        idle = BufferPool(count: layout.count)
        guard configuration.mode == .everyStep else { return }
        let host = CPUEngine(threads: threads)
        host.configure(configuration)
        self.host = host
    }

    private func begin() throws(Refusal) {
        let fresh = try start()
        link = fresh
        arena = nil
        (sequence, version) = (0, 0)
        let reply = try call("hello", ["protocol": Self.protocolVersion], seconds: startPatience)
        guard reply["protocol"] as? Int == Self.protocolVersion else {
            throw end("it speaks another version of the protocol than \(Self.protocolVersion)")
        }
        if let bytes = reply["memory"] as? Int, bytes > 0 { memory = ByteCount(bytes) }
        device = String((reply["device"] as? String ?? "a device").prefix(100))
    }

    package func recompute(_ recomputes: Bool) throws(Refusal) {
        try call("recompute", ["on": recomputes], seconds: patience)
    }

    package func read(
        _ quantity: DeviceQuantity, unit: Int, into values: UnsafeMutableBufferPointer<Float>
    ) throws(Refusal) {
        let arena = try sharedMemory()
        if case .share(let node) = quantity {
            guard let sum = shares.first(where: { $0.node == node })?.sum else {
                throw Refusal("there is no \(quantity) on the device")
            }
            _ = values.update(fromContentsOf: sum.values(layout!.range(unit: unit)))
            return
        }
        if let host { return try host.read(quantity, unit: unit, into: values) }
        if hasNo(quantity) { return values.update(repeating: 0) }
        let name = try WorkerMessages.name(quantity)
        try call(
            "get", ["quantity": name, "unit": unit, "out": place(places.output, values.count)],
            seconds: seconds(bytes: 4 * values.count))
        try take(arena.floats(at: places.output, count: values.count), into: values)
    }

    package func write(
        _ quantity: DeviceQuantity, unit: Int, from values: UnsafeBufferPointer<Float>
    ) throws(Refusal) {
        _ = try sharedMemory()
        if let host {
            try host.write(quantity, unit: unit, from: values)
            guard quantity == .parameters else { return }
        }
        if hasNo(quantity) { return }
        try put(WorkerMessages.name(quantity), unit: unit, values)
        guard quantity == .parameters, let adapters = stage!.optimizer.recipe.adapters else { return }
        try begin(adapters, unit: unit, values)
    }

    /// With adapters nothing but their factors has moments, and those begin anew with each round.
    private func hasNo(_ quantity: DeviceQuantity) -> Bool {
        stage!.optimizer.recipe.adapters != nil && (quantity == .firstMoment || quantity == .secondMoment)
    }

    /// A unit's weights are these now: the worker, which draws nothing that others must draw too, gets A of each matrix.
    private func begin(_ adapters: Adapters, unit: Int, _ weights: UnsafeBufferPointer<Float>) throws(Refusal) {
        let entries = layout!.entries(unit: unit)
        let count = adapters.inputValues(entries)
        guard count > 0 else { return }
        let room = FloatBuffer(count)
        var at = 0
        for entry in entries where adapters.adapts(entry.tensor) {
            let own = weights.baseAddress! + entry.range.lowerBound - layout!.range(unit: unit).lowerBound
            adapters.draw(entry.tensor, weights: own, seed: stage!.seed, into: room.base + at)
            at += adapters.rank * entry.tensor.shape[1]
        }
        try put("adapters", unit: unit, UnsafeBufferPointer(room.allValues))
        withExtendedLifetime(room) {}
    }

    private func put(_ quantity: String, unit: Int, _ values: UnsafeBufferPointer<Float>) throws(Refusal) {
        let arena = try sharedMemory()
        _ = arena.floats(at: places.input, count: values.count).update(fromContentsOf: values)
        try call(
            "put", ["quantity": quantity, "unit": unit, "in": place(places.input, values.count)],
            seconds: seconds(bytes: 4 * values.count), changes: true)
    }

    /// Takes what the worker has summed of a virtual pipeline that is complete: the sums of all of them are made here, in the tree's
    /// order.
    private func closeShare() throws(Refusal) {
        guard let virtualPipeline = open, let layout else { return }
        open = nil
        let arena = try sharedMemory()
        let sum = idle.take()
        for unit in stage!.units {
            let own = sum.values(layout.range(unit: unit))
            try call(
                "take", ["unit": unit, "out": place(places.output, own.count)],
                seconds: seconds(bytes: 4 * own.count), changes: true)
            try take(arena.floats(at: places.output, count: own.count), into: own)
        }
        let tree = GradientTree(virtualPipelines: stage!.geometry.virtualPipelines)
        tree.push(sum, at: tree.leaf(virtualPipeline), onto: &shares) { left, right in
            kernels_add(Int32(clamping: threads), left.count, right.base, left.base)
            idle.giveBack(right)
            return left
        }
    }

    // MARK: micro-batches

    package func forward(
        _ key: MicroBatchKey, text: TokenText?, input: UnsafeBufferPointer<Float>?,
        output: UnsafeMutableBufferPointer<Float>?
    ) throws(Refusal) -> Float {
        let arena = try sharedMemory()
        var fields: [String: Any] = ["key": WorkerMessages.key(key)]
        fields.merge(put(text, arena)) { $1 }
        if let input { fields["in"] = put(input, arena) }
        if let output { fields["out"] = place(places.output, output.count) }
        let reply = try work("forward", fields, flops: forwardFLOPs(stage!.geometry.microBatch))
        if let output { try take(arena.floats(at: places.output, count: output.count), into: output) }
        guard stage!.endsWithLoss else { return 0 }
        guard let loss = reply["loss"] as? Double, loss.isFinite else { throw end("its loss is no number") }
        return Float(loss)
    }

    package func backward(
        _ key: MicroBatchKey, gradient: UnsafeBufferPointer<Float>?, inputGradient: UnsafeMutableBufferPointer<Float>?
    ) throws(Refusal) {
        let arena = try sharedMemory()
        if host != nil { open = key.virtualPipeline }
        var fields: [String: Any] = ["key": WorkerMessages.key(key)]
        if let gradient { fields["in"] = put(gradient, arena) }
        if let inputGradient { fields["out"] = place(places.output, inputGradient.count) }
        _ = try work("backward", fields, flops: 3 * forwardFLOPs(stage!.geometry.microBatch))
        if let inputGradient {
            try take(arena.floats(at: places.output, count: inputGradient.count), into: inputGradient)
        }
        // In order of micro-batches: this was its virtual pipeline's last.
        if key.index == stage!.geometry.microBatchesPerVirtual - 1 { try closeShare() }
    }

    package func head(
        _ key: MicroBatchKey, input: UnsafeBufferPointer<Float>, gradient: UnsafeMutableBufferPointer<Float>
    ) throws(Refusal) -> Float {
        let arena = try sharedMemory()
        let fields: [String: Any] = [
            "key": WorkerMessages.key(key), "in": put(input, arena), "out": place(places.output, gradient.count),
        ]
        let reply = try work("head", fields, flops: 3 * stage!.model.headFLOPs(sequences: stage!.geometry.microBatch))
        try take(arena.floats(at: places.output, count: gradient.count), into: gradient)
        guard let loss = reply["loss"] as? Double, loss.isFinite else { throw end("its loss is no number") }
        return Float(loss)
    }

    package func evaluateHead(
        sequences: Int, text: TokenText, input: UnsafeBufferPointer<Float>, output: UnsafeMutableBufferPointer<Float>
    ) throws(Refusal) {
        let arena = try sharedMemory()
        let rows = sequences * stage!.geometry.context
        var fields: [String: Any] = ["sequences": sequences, "out": place(places.output, rows)]
        fields.merge(put(text, arena)) { $1 }
        fields["in"] = put(UnsafeBufferPointer(rebasing: input.prefix(rows * stage!.model.hiddenSize)), arena)
        _ = try work(
            "evaluate_head", fields, flops: stage!.model.headFLOPs(sequences: sequences), changes: false)
        try take(
            arena.floats(at: places.output, count: rows),
            into: UnsafeMutableBufferPointer(rebasing: output.prefix(rows)))
    }

    package func evaluate(
        sequences: Int, text: TokenText?, input: UnsafeBufferPointer<Float>?, output: UnsafeMutableBufferPointer<Float>
    ) throws(Refusal) {
        let arena = try sharedMemory()
        let rows = sequences * stage!.geometry.context
        let count = stage!.endsWithLoss ? rows : rows * stage!.model.hiddenSize
        var fields: [String: Any] = ["sequences": sequences, "out": place(places.output, count)]
        fields.merge(put(text, arena)) { $1 }
        if let input {
            fields["in"] = put(UnsafeBufferPointer(rebasing: input.prefix(rows * stage!.model.hiddenSize)), arena)
        }
        _ = try work("evaluate", fields, flops: forwardFLOPs(sequences), changes: false)
        try take(
            arena.floats(at: places.output, count: count),
            into: UnsafeMutableBufferPointer(rebasing: output.prefix(count)))
    }

    // MARK: steps

    package func completeShares() throws(Refusal) -> [Int] {
        try closeShare()
        return shares.map(\.node)
    }

    package func finishGradient(microBatches: Int) throws(Refusal) -> [Float] {
        let arena = try sharedMemory()
        let count = layout!.entries.count
        try call(
            "finish", ["micro_batches": microBatches, "out": place(places.output, count)],
            seconds: seconds(bytes: 4 * layout!.count), changes: true)
        var sums = [Float](repeating: 0, count: count)
        try sums.withUnsafeMutableBufferPointer { values throws(Refusal) in
            try take(arena.floats(at: places.output, count: count), into: values)
        }
        guard sums.allSatisfy({ $0 >= 0 }) else { throw end("a sum of squares is negative") }
        return sums
    }

    package func optimizerStep(_ step: DeviceStep) throws(Refusal) {
        _ = try sharedMemory()
        if let host {
            // The same bits everywhere: taken on the processor, of a gradient that all agree on.
            try host.optimizerStep(step)
            let values = idle.take()
            defer { idle.giveBack(values) }
            for unit in stage!.units {
                let own = values.values(layout!.range(unit: unit))
                try host.read(.parameters, unit: unit, into: own)
                try put(WorkerMessages.name(.parameters), unit: unit, UnsafeBufferPointer(own))
            }
            return try dropWork()
        }
        try call(
            "step",
            [
                "learning_rate": Double(step.learningRate), "gradient_scale": Double(step.gradientScale),
                "steps": step.steps,
            ], seconds: seconds(bytes: 16 * layout!.count), changes: true)
    }

    package func dropWork() throws(Refusal) {
        // Where no worker is left there is nothing to drop.
        guard link != nil, stage != nil else { return }
        for share in shares { idle.giveBack(share.sum) }
        (open, shares) = (nil, [])
        try host?.dropWork()
        try call("drop", [:], seconds: patience, changes: true)
    }

    package func benchmark(flops: Double) throws(Refusal) {
        if link == nil { try begin() }
        _ = try work("benchmark", ["flops": flops], flops: flops, changes: false)
    }

    // MARK: requests

    /// The shared memory of a configured stage.
    private func sharedMemory() throws(Refusal) -> Arena {
        guard stage != nil, link != nil, let arena else { throw Refusal("the worker is gone: \(ended)") }
        return arena
    }

    /// A request whose time says how fast the device is.
    private func work(
        _ operation: String, _ fields: [String: Any], flops: Double, changes: Bool = true
    ) throws(Refusal) -> [String: Any] {
        let started = ContinuousClock.now
        let reply = try call(
            operation, fields, seconds: patience + 10 * flops / (slowest ?? Self.leastSpeed), changes: changes)
        let taken = (ContinuousClock.now - started) / .seconds(1)
        // What takes a moment says more of the way than of the work.
        if taken > 0.01 { slowest = max(Self.leastSpeed / 100, min(slowest ?? .infinity, flops / taken)) }
        return reply
    }

    @discardableResult
    private func call(
        _ operation: String, _ fields: [String: Any], seconds: Double, changes: Bool = false, descriptor: Int32? = nil
    ) throws(Refusal) -> [String: Any] {
        guard let channel = link?.channel else { throw Refusal("the worker is gone: \(ended)") }
        sequence += 1
        var message = fields
        message["op"] = operation
        message["seq"] = sequence
        message["version"] = version
        let reply: [String: Any]
        do throws(WorkerChannel.Failure) {
            try channel.send(message, descriptor: descriptor)
            reply = try channel.receive(within: .seconds(seconds)).object
        } catch {
            throw end("\(operation): \(error.text)")
        }
        guard reply["seq"] as? Int == sequence else { throw end("\(operation): it answered another question") }
        if let error = reply["error"] as? [String: Any] {
            let kind = error["kind"] as? String ?? "unknown"
            let text = "\(operation): \(String((error["message"] as? String ?? "").prefix(300))) (\(kind))"
            guard ["unsupported", "bad_shape", "out_of_memory", "not_finite"].contains(kind) else { throw end(text) }
            throw Refusal("the worker refuses: \(text)")
        }
        guard reply["ok"] as? Bool == true else { throw end("\(operation): neither an answer nor an error came") }
        if changes { version += 1 }
        return reply
    }

    /// Ends the worker; what is thrown says why.
    private func end(_ why: String) -> Refusal {
        link?.end()
        link = nil
        arena = nil
        ended = why
        return Refusal("the worker was ended: \(why)")
    }

    // MARK: numbers

    private func place(_ offset: Int, _ count: Int) -> [String: Any] { ["offset": offset, "count": count] }

    private func put(_ values: UnsafeBufferPointer<Float>, _ arena: Arena) -> [String: Any] {
        _ = arena.floats(at: places.input, count: values.count).update(fromContentsOf: values)
        return place(places.input, values.count)
    }

    private func put(_ text: TokenText?, _ arena: Arena) -> [String: Any] {
        guard let text else { return [:] }
        var fields: [String: Any] = [:]
        for (name, values, offset) in [
            ("tokens", text.tokens, places.text), ("targets", text.targets, places.text + places.textBytes),
            ("first_seen", text.firstSeen, places.text + 2 * places.textBytes),
        ] where !values.isEmpty {
            _ = arena.integers(at: offset, count: values.count).update(fromContentsOf: values)
            fields[name] = place(offset, values.count)
        }
        return fields
    }

    /// What a worker has written is believed only where it is finite.
    private func take(
        _ found: UnsafeMutableBufferPointer<Float>, into values: UnsafeMutableBufferPointer<Float>
    ) throws(Refusal) {
        guard kernels_all_finite(found.count, found.baseAddress!) else { throw end("its numbers are not finite") }
        _ = values.update(fromContentsOf: found)
    }

    private func forwardFLOPs(_ sequences: Int) -> Double {
        stage!.model.forwardFLOPs(units: stage!.units, sequences: sequences)
    }
    private func seconds(bytes: Int) -> Double { patience + Double(bytes) / 1e7 }
}

/// Where things lie in the arena: an input, an output, and three lists of tokens.
private struct Places {
    var input = 0, output = 0, text = 0, textBytes = 0, bytes = 0

    init() {}
    init(_ configuration: StageConfiguration, _ layout: StageLayout) {
        let rows = configuration.geometry.tokensPerMicroBatch
        let adapters = configuration.optimizer.recipe.adapters
        let unit =
            configuration.units.map {
                max(layout.range(unit: $0).count, adapters?.inputValues(layout.entries(unit: $0)) ?? 0)
            }.max() ?? 0
        let values = max(rows * configuration.model.hiddenSize, unit, rows, layout.entries.count)
        let region = (4 * values + 4095) / 4096 * 4096
        output = region
        text = 2 * region
        textBytes = (4 * rows + 4095) / 4096 * 4096
        bytes = text + 3 * textBytes
    }
}
