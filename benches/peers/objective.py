"""The objective that the scripts of this directory give to harness, which asks for one; they judge nothing by it."""


def slo(request):
    """99 % of the requests of this name are answered as expected."""
    return f"""apiVersion: openslo/v1
kind: SLO
metadata: {{name: answered, annotations: {{harness/signal: errors}}}}
spec:
  service: target
  indicator:
    metadata: {{name: answered}}
    spec:
      ratioMetric:
        counter: true
        good: {{metricSource: {{type: LoadClient, spec: {{request: {request}, outcome: expected}}}}}}
        total: {{metricSource: {{type: LoadClient, spec: {{request: {request}}}}}}}
  timeWindow: [{{duration: 28d, isRolling: true}}]
  budgetingMethod: Occurrences
  objectives: [{{displayName: answered, target: 0.99}}]
"""
