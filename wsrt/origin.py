from typing import Any
def check_origin(scope: Any) -> Any: return None
