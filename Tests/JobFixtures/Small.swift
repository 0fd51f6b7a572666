public import Digests
public import Primitives
public import Record
public import Training

/// A job small enough to follow by hand: four units, micro-batches of eight tokens, four virtual pipelines.
public enum Small {
    public static let model = ModelShape(
        hiddenSize: 8, layers: 2, heads: 2, kvHeads: 1, intermediateSize: 8, context: 8)
    public static let launcher = key(250)

    public static func key(_ number: Int) -> SigningKey {
        var seed = [UInt8](repeating: UInt8(number & 255), count: 32)
        seed[0] ^= UInt8(number >> 8)
        return SigningKey(seed: seed)!
    }
    public static func peer(_ number: Int) -> PeerID { key(number).peerID }
    public static func endpoint(_ number: Int) -> Endpoint {
        Endpoint(ipv4: 10, 0, UInt8(number >> 8), UInt8(number & 255), port: 4000)
    }

    public static func parameters(tokens: Int = 10_000, virtualPipelines: Int = 4, checkpointRounds: Int = 0)
        -> JobParameters
    {
        var out = JobParameters(
            name: "small", model: model, virtualPipelines: virtualPipelines, microBatch: 1, tokens: tokens,
            optimizer: InnerOptimizer(learningRate: 0.1, warmupTokens: 0, totalTokens: tokens), seed: 1,
            validationFraction: 0.1, checkpointRounds: checkpointRounds)
        out.localRounds = 4
        return out
    }

    /// Pipelines of the peers named, cut evenly; the virtual pipelines in order, as many for each.
    public static func plan(
        _ pipelines: [[Int]], epoch: Int = 1, round: Int = 0, innerSteps: Int = 2, attempts: [Int] = [],
        spares: [Int] = [], virtualPipelines: Int = 4, inFlight: Int = 2, microBatchesPerVirtual: Int = 1,
        delay: Int = 0
    ) -> PlacedPlan {
        PlacedPlan(
            epoch: epoch, round: round,
            pipelines: pipelines.enumerated().map { rank, peers in
                PlacedPlan.Pipeline(
                    stages: peers.enumerated().map { stage, number in
                        let units = model.unitCount
                        return PlacedPlan.Stage(
                            peer: peer(number),
                            units: units * stage / peers.count..<units * (stage + 1) / peers.count)
                    },
                    virtualPipelines: Array(
                        virtualPipelines * rank / pipelines.count..<virtualPipelines * (rank + 1) / pipelines.count),
                    inFlight: inFlight, attempt: rank < attempts.count ? attempts[rank] : 0)
            }, spares: spares.map { peer($0) }, innerSteps: innerSteps, microBatchesPerVirtual: microBatchesPerVirtual,
            exchangeCodec: .fp32, activationCodec: .fp32, outer: OuterOptimizer(delay: delay))
    }
}
